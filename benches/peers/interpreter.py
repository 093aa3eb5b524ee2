"""An exported network in PyTorch: the ONNX graph node by node, each by PyTorch's own function for it."""

import sys

import onnx
import torch
from onnx import numpy_helper

LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
TYPES = {"f32": torch.float32, "f16": torch.float16}


class Network:
    """Called with `a` and `b`, tensors of `placed`; it takes no gradients."""

    def __init__(self, model, layout="contiguous", device="cpu", precision="f32"):
        self.format, self.device, self.dtype = LAYOUTS[layout], device, TYPES[precision]
        graph = onnx.load(model).graph
        self.known = {t.name: self.constant(numpy_helper.to_array(t)) for t in graph.initializer} | {"": None}
        last = {name: i for i, node in enumerate(graph.node) for name in node.input}
        computed = {name for node in graph.node for name in node.output}
        # Two names for one memory.
        views = [node for node in graph.node if node.op_type in ("Slice", "Reshape")]
        views = {name for node in views for name in (node.input[0], node.output[0])}
        self.steps = []
        for i, node in enumerate(graph.node):
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            ends = [name for name in {*node.input} & computed if last[name] == i]
            function = getattr(self, node.op_type.lower(), None)
            if function is None:
                sys.exit(f"{model} has a node {node.op_type}, which {__file__} does not know; add it there")
            # A value that nobody reads afterwards is overwritten where PyTorch can, and freed.
            spare = node.input[0] in ends and node.input[0] not in views
            self.steps.append((function, spare, [*node.input], node.output[0], attributes, ends))

    def constant(self, array):
        """Numbers and lists for Python: as tensors on a card they would have to be waited for."""
        if array.dtype.kind == "i" or array.ndim == 0:
            return array.tolist()
        return self.placed(array)

    def placed(self, array):
        t = torch.from_numpy(array.copy()).to(self.device, self.dtype)
        return t.contiguous(memory_format=self.format) if t.dim() == 4 else t

    def __call__(self, a, b):
        values = {**self.known, "a": a, "b": b}
        for function, spare, inputs, output, attributes, ends in self.steps:
            values[output] = function(spare, *[values[name] for name in inputs], **attributes)
            for name in ends:
                del values[name]
        return values["fused"]

    def conv(self, _, x, w, bias=None, *, pads, kernel_shape, strides=(1, 1), dilations=(1, 1), group=1):
        return torch.nn.functional.conv2d(x, w, bias, strides, pads[:2], dilations, group)

    def leakyrelu(self, spare, x, *, alpha):
        return torch.nn.functional.leaky_relu(x, alpha, inplace=spare)

    def relu(self, spare, x):
        return x.relu_() if spare else x.relu()

    def sigmoid(self, spare, x):
        return x.sigmoid_() if spare else x.sigmoid()

    def exp(self, spare, x):
        return x.exp_() if spare else x.exp()

    def sqrt(self, spare, x):
        return x.sqrt_() if spare else x.sqrt()

    def clip(self, spare, x, low, high):
        return x.clamp_(low, high) if spare else x.clamp(low, high)

    def max(self, spare, x, low):
        return x.clamp_(min=low) if spare else x.clamp(min=low)

    def min(self, spare, x, high):
        return x.clamp_(max=high) if spare else x.clamp(max=high)

    def pow(self, spare, x, y):
        return x.pow_(y) if spare else x.pow(y)

    def add(self, spare, x, y):
        return x.add_(y) if self.fits(spare, x, y) else x + y

    def sub(self, spare, x, y):
        return x.sub_(y) if self.fits(spare, x, y) else x - y

    def mul(self, spare, x, y):
        return x.mul_(y) if self.fits(spare, x, y) else x * y

    def div(self, spare, x, y):
        return x.div_(y) if self.fits(spare, x, y) else x / y

    def fits(self, spare, x, y):
        if not spare or not isinstance(y, torch.Tensor):
            return spare
        return torch.broadcast_shapes(x.shape, y.shape) == x.shape

    def concat(self, _, *xs, axis):
        return torch.cat(xs, axis)

    def reducemax(self, _, x, *, axes, keepdims=1):
        return x.amax(axes, bool(keepdims))

    def reducemin(self, _, x, *, axes, keepdims=1):
        return x.amin(axes, bool(keepdims))

    def reducemean(self, _, x, *, axes, keepdims=1):
        return x.mean(axes, bool(keepdims))

    def globalaveragepool(self, _, x):
        return x.mean((2, 3), True)

    def averagepool(self, _, x, *, kernel_shape, pads, strides, count_include_pad):
        pool = torch.nn.functional.avg_pool2d
        return pool(x, kernel_shape, strides, pads[:2], count_include_pad=bool(count_include_pad))

    def pad(self, _, x, pads, *, mode):
        top, left, bottom, right = (pads[i] for i in (2, 3, 6, 7))
        if mode != b"reflect" or any(pads[i] for i in (0, 1, 4, 5)):
            sys.exit(f"a Pad that is none of ours: {mode} {pads}")
        return torch.nn.functional.pad(x, (left, right, top, bottom), "reflect")

    def slice(self, _, x, starts, ends, axes):
        index = [slice(None)] * x.dim()
        for start, end, axis in zip(starts, ends, axes):
            index[axis] = slice(start, end)
        return x[tuple(index)]

    def reshape(self, _, x, shape):
        return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])

    def shape(self, _, x):
        return x.shape

    def resize(self, _, x, roi, scales, sizes, *, mode, coordinate_transformation_mode):
        if roi is not None or scales is not None or (mode, coordinate_transformation_mode) != (b"linear", b"half_pixel"):
            sys.exit("a Resize that is none of ours")
        return torch.nn.functional.interpolate(x, tuple(sizes)[2:], mode="bilinear", align_corners=False)

