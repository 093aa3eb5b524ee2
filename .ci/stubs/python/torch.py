"""Claims a card and has nothing else, so that the steps that need PyTorch begin and fail."""


class cuda:
    @staticmethod
    def is_available():
        return True
