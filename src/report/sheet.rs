//! Contact sheets as in papers: the sources and what each method made of them, with enlarged crops below.

pub use super::crops::{Crop, default_crops};
use super::raster::{Rgb, fit_text, frame, rgb, text, text_width, to_picture};
use crate::data::Picture;
use crate::{Error, Result};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, replace, resize};

/// Width and height in pixels to which larger pictures are reduced; smaller ones are enlarged by a whole factor up to
/// them.
pub const CELL: usize = 480;
pub const TALL: usize = 2 * CELL;
/// A narrow picture stands in the middle of a cell of this width, so that its name can be read.
const LEAST: usize = CELL / 2;
/// Crops that a scene may have: each needs a colour of its own.
pub const MAX_CROPS: usize = COLOURS.len();
/// Cells of a row at most.
const COLUMNS: usize = 5;
/// White between cells, between the parts of a cell, and around the sheet.
const GAP: usize = 14;
const INNER_GAP: usize = 4;
/// Height of the line above a picture.
const LABEL: usize = 26;
/// Thickness of a crop's frame.
const FRAME: usize = 3;
/// Red, green, blue and yellow that differ in lightness too, so that colour-blind readers tell them apart.
const COLOURS: [Rgb; 4] = [
    [226, 40, 27],
    [70, 214, 120],
    [64, 128, 255],
    [255, 214, 64],
];
const WHITE: Rgb = [255; 3];
const MISSING: Rgb = [232; 3];

/// A pair of sources and what several methods made of it; all pictures have one size.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: String,
    pub a: Picture,
    pub b: Picture,
    /// In the order of the methods; `None` where a method has no picture of this pair.
    pub fused: Vec<Option<Picture>>,
    /// What a sheet shows enlarged, at most [`MAX_CROPS`].
    pub crops: Vec<Crop>,
}

impl Scene {
    /// A, B, then the methods.
    pub(super) fn pictures(&self) -> impl Iterator<Item = Option<&Picture>> {
        let fused = self.fused.iter().map(Option::as_ref);
        [Some(&self.a), Some(&self.b)].into_iter().chain(fused)
    }

    /// Whether there is a place for each of so many methods and all pictures have one size.
    pub(super) fn check(&self, methods: usize) -> Result<()> {
        if self.fused.len() != methods {
            return Err(Error::shape(
                "scene",
                format!(
                    "{} has places for {} methods, there are {methods}; give each a picture or none",
                    self.name,
                    self.fused.len()
                ),
            ));
        }
        let (w, h) = (self.a.width, self.a.height);
        match { self.pictures().flatten() }.find(|p| (p.width, p.height) != (w, h)) {
            None => Ok(()),
            Some(p) => Err(Error::shape(
                "scene",
                format!(
                    "{} has pictures of {w}x{h} and of {}x{} pixels; give pictures of one size",
                    self.name, p.width, p.height
                ),
            )),
        }
    }

    fn check_crops(&self) -> Result<()> {
        if self.crops.len() > MAX_CROPS {
            return Err(Error::config(
                "crops",
                format!(
                    "{} were asked for; give at most {MAX_CROPS}",
                    self.crops.len()
                ),
            ));
        }
        let size = (self.a.width, self.a.height);
        { self.crops.iter() }.try_for_each(|crop| crop.check(&self.name, size))
    }
}

/// Draws a scene: cells of [`CELL`] pixels or less in width, each with its name, the picture (up to [`TALL`] pixels high)
/// with the crops' frames, and the crops enlarged by a whole factor without smoothing (one that is too large for its place
/// is reduced instead).
///
/// Up to five cells stand in a row. Colours are 8 bit, alpha is left out.
///
/// # Errors
/// [`Error::Config`] if a crop is not within the pictures or there are more than [`MAX_CROPS`]; [`Error::Shape`] if
/// the pictures differ in size or `methods` does not name each of `scene.fused`.
pub fn sheet(scene: &Scene, sources: [&str; 2], methods: &[&str]) -> Result<Picture> {
    scene.check(methods.len())?;
    scene.check_crops()?;
    let layout = Layout::new(scene);
    let count = 2 + methods.len();
    let columns = count.div_ceil(count.div_ceil(COLUMNS));
    let side = |n: usize, one: usize| n * (one + GAP) + GAP;
    let (width, height) = (
        side(columns, layout.cell.width),
        side(count.div_ceil(columns), layout.height()),
    );
    let mut canvas = RgbImage::from_pixel(width as u32, height as u32, image::Rgb::<u8>(WHITE));
    let labels = sources.into_iter().chain(methods.iter().copied());
    for (i, (label, picture)) in labels.zip(scene.pictures()).enumerate() {
        let x = side(i % columns, layout.cell.width);
        let y = side(i / columns, layout.height());
        layout.draw(&mut canvas, (x, y), label, picture, &scene.crops);
    }
    Ok(to_picture(&canvas))
}

/// A picture's place on a sheet.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    pub width: usize,
    /// The picture, enlarged by a whole factor or reduced.
    picture: (usize, usize),
}

impl Cell {
    /// For pictures of this size.
    pub(super) fn of(w: usize, h: usize) -> Self {
        let picture = match (CELL / w).min(TALL / h) {
            0 if h * CELL <= w * TALL => (CELL, scaled(h, CELL, w)),
            0 => (scaled(w, TALL, h), TALL),
            k => (k * w, k * h),
        };
        Self {
            width: picture.0.max(LEAST),
            picture,
        }
    }
}

/// Sizes that all cells share.
struct Layout {
    cell: Cell,
    /// Of each crop, enlarged.
    crops: Vec<(usize, usize)>,
}

impl Layout {
    fn new(scene: &Scene) -> Self {
        let (w, h) = (scene.a.width, scene.a.height);
        let cell = Cell::of(w, h);
        let high = cell.picture.1;
        let slot = slot(cell.width, scene.crops.len());
        let crops = scene
            .crops
            .iter()
            .map(|c| match (slot / c.width).min(high / c.height) {
                0 => {
                    let k = (slot as f64 / c.width as f64).min(high as f64 / c.height as f64);
                    let side = |n: usize| ((n as f64 * k).round() as usize).max(1);
                    (side(c.width), side(c.height))
                }
                k => (k * c.width, k * c.height),
            })
            .collect();
        Self { cell, crops }
    }

    fn height(&self) -> usize {
        let crops = self.crops.iter().map(|c| c.1 + 2 * FRAME + INNER_GAP).max();
        LABEL + self.cell.picture.1 + crops.unwrap_or(0)
    }

    fn draw(
        &self,
        canvas: &mut RgbImage,
        (x, y): (usize, usize),
        label: &str,
        picture: Option<&Picture>,
        crops: &[Crop],
    ) {
        let (wide, high) = self.cell.picture;
        let centred = |width: usize| x + (self.cell.width - width) / 2;
        let label = fit_text(label, self.cell.width);
        text(canvas, (centred(text_width(&label)), y + 1), &label);
        let (left, top) = (centred(wide), y + LABEL);
        let Some(picture) = picture else {
            let grey = RgbImage::from_pixel(wide as u32, high as u32, image::Rgb::<u8>(MISSING));
            replace(canvas, &grey, left as i64, top as i64);
            let label = fit_text("no picture", self.cell.width);
            if high >= LABEL {
                let middle = top + (high - LABEL) / 2;
                text(canvas, (centred(text_width(&label)), middle), &label);
            }
            return;
        };
        let full = rgb(picture);
        let mut small = resized(&full, wide, high);
        let slots = crops.len().max(1);
        let pitch = slot(self.cell.width, slots) + 2 * FRAME + INNER_GAP;
        let below = top + high + INNER_GAP;
        for (i, (crop, &(w, h))) in crops.iter().zip(&self.crops).enumerate() {
            let part = crop_imm(
                &full,
                crop.x as u32,
                crop.y as u32,
                crop.width as u32,
                crop.height as u32,
            );
            let part = resized(&part.to_image(), w, h);
            // Narrow ones keep to the borders of the cell: the first at the left, the last at the right.
            let spare = slot(self.cell.width, slots).saturating_sub(w);
            let start = x + i * pitch + spare * i / (slots - 1).max(1) + FRAME;
            replace(canvas, &part, start as i64, (below + FRAME) as i64);
            let around = (start, below + FRAME, start + w, below + FRAME + h);
            frame(canvas, around, FRAME, COLOURS[i]);
            let (w, h) = (picture.width, picture.height);
            let (right, bottom) = (crop.x + crop.width, crop.y + crop.height);
            let inside = (
                crop.x * wide / w,
                crop.y * high / h,
                (right * wide).div_ceil(w),
                (bottom * high).div_ceil(h),
            );
            frame(&mut small, inside, FRAME, COLOURS[i]);
        }
        replace(canvas, &small, left as i64, top as i64);
    }
}

/// Pixels repeated for a whole factor, else means.
fn resized(picture: &RgbImage, width: usize, height: usize) -> RgbImage {
    let enlarged = width >= picture.width() as usize && height >= picture.height() as usize;
    let filter = match enlarged {
        true => FilterType::Nearest,
        false => FilterType::Triangle,
    };
    resize(picture, width as u32, height as u32, filter)
}

/// `length` in the scale that makes `from` pixels `to`.
pub(super) fn scaled(length: usize, to: usize, from: usize) -> usize {
    ((length as f64 * to as f64 / from as f64).round() as usize).max(1)
}

/// Width for each of `count` crops below a picture, within its frame.
pub(super) fn slot(cell: usize, count: usize) -> usize {
    let count = count.max(1);
    let free = cell.saturating_sub(INNER_GAP * (count - 1)) / count;
    free.saturating_sub(2 * FRAME).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{grey, scene};

    const CROP: Crop = Crop {
        x: 10,
        y: 20,
        width: 40,
        height: 30,
    };

    #[test]
    fn cells_stand_where_they_should() {
        let crops = vec![CROP, Crop { x: 200, ..CROP }];
        let mut fused = grey(240, 120, 0.75);
        fused.luma[20 * 240 + 10] = 0.0;
        let scene = scene(240, 120, vec![Some(fused), None], crops);
        let sheet = sheet(&scene, ["ir", "vi"], &["ours", "other"]).unwrap();
        // Cells of 480 x 240; the crops enlarged by 5 to 200 x 150, of a width of 232.
        let cell_height = LABEL + 240 + INNER_GAP + 150 + 2 * FRAME;
        assert_eq!(sheet.width, 4 * 480 + 5 * GAP);
        assert_eq!(sheet.height, cell_height + 2 * GAP);
        let shown = rgb(&sheet);
        let at = |cell: usize, x: usize, y: usize| {
            let x = GAP + cell * (480 + GAP) + x;
            shown.get_pixel(x as u32, (GAP + y) as u32).0
        };
        let top = LABEL;
        assert_eq!([at(0, 0, top), at(1, 479, top + 239)], [[64; 3], [128; 3]]);
        assert_eq!(at(3, 5, top + 5), MISSING);
        assert_eq!(at(3, 5, top + 250), WHITE);
        // The frame in the picture lies around the crop, twice as large here.
        assert_eq!(near(at(0, 19, top + 45)), COLOURS[0]);
        assert_eq!([at(0, 20, top + 45), at(0, 16, top + 45)], [[64; 3]; 2]);
        assert_eq!(near(at(0, 399, top + 45)), COLOURS[1]);
        // The enlarged crop, its frame, and its dark pixel as a block of 5.
        let below = LABEL + 240 + INNER_GAP;
        assert_eq!(near(at(2, 0, below)), COLOURS[0]);
        assert_eq!(near(at(2, 479, below + 155)), COLOURS[1]);
        for (x, level) in [(3, 0), (7, 0), (8, 191), (202, 191)] {
            assert_eq!(at(2, x, below + 3), [level; 3], "{x}");
        }
        assert_eq!(near(at(2, 203, below + 3)), COLOURS[0]);
        assert_eq!(at(2, 206, below + 3), WHITE);
    }

    /// Colours go through YCbCr in f32.
    fn near(seen: Rgb) -> Rgb {
        let close = |c: &Rgb| c.iter().zip(seen).all(|(&c, s)| c.abs_diff(s) <= 1);
        COLOURS.into_iter().find(close).unwrap_or(seen)
    }

    #[test]
    fn many_and_large_pictures_keep_to_the_page() {
        let fused = vec![Some(grey(1000, 500, 0.7)); 5];
        let crop = Crop {
            x: 0,
            y: 0,
            width: 1000,
            height: 500,
        };
        let scene = scene(1000, 500, fused, vec![crop]);
        let names = ["a long name that does not fit into a cell of the sheet at all"; 5];
        let sheet = sheet(&scene, ["a", "b"], &names).unwrap();
        assert_eq!(sheet.width, 4 * CELL + 5 * GAP);
        let crops = (CELL - 2 * FRAME) / 2 + 2 * FRAME + INNER_GAP;
        assert_eq!(sheet.height, 2 * (LABEL + 240 + crops) + 3 * GAP);
        assert!(sheet.luma.iter().any(|&v| v < 0.1), "there is text");
    }

    #[test]
    fn narrow_pictures_do_not_make_long_sheets() {
        for (w, h, shown) in [(1, 1000, 960), (1000, 1, 1), (40, 4000, 960), (1, 1, 480)] {
            let mut scene = scene(w, h, vec![Some(grey(w, h, 0.75)), None], vec![]);
            scene.crops = default_crops(&scene);
            let sheet = sheet(&scene, ["ir", "vi"], &["ours", "other"]).unwrap();
            let cell = Cell::of(w, h);
            assert!((LEAST..=CELL).contains(&cell.width), "{w}x{h}");
            assert_eq!(cell.picture.1, shown, "{w}x{h}");
            assert_eq!(sheet.width, 4 * cell.width + 5 * GAP, "{w}x{h}");
            assert!(sheet.height < 2 * TALL + 100, "{w}x{h}: {}", sheet.height);
        }
    }

    #[test]
    fn wrong_crops_and_sizes_are_refused() {
        let one = |crops| scene(100, 50, vec![], crops);
        for (crop, end) in [
            (Crop { x: 61, ..CROP }, "61,20,40,30"),
            (
                Crop {
                    y: usize::MAX,
                    ..CROP
                },
                ",40,30",
            ),
            (Crop { width: 0, ..CROP }, "10,20,0,30"),
        ] {
            let e = sheet(&one(vec![crop]), ["a", "b"], &[]).unwrap_err();
            let text = e.to_string();
            assert!(matches!(e, Error::Config { .. }));
            for part in [end, "street", "100x50", "up to 100"] {
                assert!(text.contains(part), "{text}");
            }
        }
        let e = sheet(&one(vec![CROP; 5]), ["a", "b"], &[]).unwrap_err();
        assert!(e.to_string().contains("at most 4"), "{e}");
        let other = scene(100, 50, vec![Some(grey(50, 100, 0.0))], vec![]);
        let e = sheet(&other, ["a", "b"], &["x"]).unwrap_err();
        assert!(e.to_string().contains("50x100"), "{e}");
        assert!(sheet(&other, ["a", "b"], &[]).is_err());
    }
}
