//! What stands still behind the traffic: rows of houses.

use super::super::noise::{cell, fbm, mix, mix3, scale, smoothstep};
use super::plan::{House, Shop};
use super::props::letter;
use super::{Ray, Street, Surface, Vec3};

const GROUND_FLOOR: f32 = 4.0;
const STOREY: f32 = 3.1;

impl Street {
    /// Where a line of sight ends if nothing stands in its way.
    pub(super) fn backdrop(&self, ray: &Ray) -> Surface {
        let ground = if ray.v < -1e-6 && !ray.mirrored {
            -ray.oy / ray.v
        } else {
            f32::INFINITY
        };
        let side = usize::from(ray.u > 0.0);
        let sign = side as f32 * 2.0 - 1.0;
        let wall = if ray.u.abs() > 1e-6 {
            (sign * self.wall - ray.ox) / ray.u
        } else {
            f32::INFINITY
        };
        if ground < wall && ground < self.end {
            return self.ground(ray, ground);
        }
        if wall < self.end {
            return self.row(ray, side, wall);
        }
        self.far_end(ray)
    }

    fn row(&self, ray: &Ray, side: usize, z: f32) -> Surface {
        let sign = side as f32 * 2.0 - 1.0;
        let mut passed = false;
        for house in &self.sides[side] {
            if house.to < z {
                continue;
            }
            if !passed {
                passed = true;
                if ray.y(z) < house.height {
                    return self.facade(ray, sign, house, z);
                }
            } else if ray.y(house.from) < house.height {
                // Above a lower house one sees the bare side wall of the next, taller one.
                let depth = ray.x(house.from) * sign - self.wall;
                if depth < 9.0 {
                    let worn = 0.6 + 0.5 * fbm(depth, ray.y(house.from), 3, house.seed);
                    let colour = scale(house.wall, 0.6 * worn);
                    let n = [0.0, 0.0, -1.0];
                    return Surface::new(house.from, n, colour, house.celsius - 0.5);
                }
                return self.sky(ray);
            }
        }
        self.far_end(ray)
    }

    /// The street bends away behind a last row of houses.
    fn far_end(&self, ray: &Ray) -> Surface {
        let (x, y) = (ray.x(self.end), ray.y(self.end));
        let block = (x / 9.0).floor() as i32;
        let height = 9.0 + 14.0 * cell(block, 3, self.seed);
        if y > height {
            return self.sky(ray);
        }
        let (i, j) = ((x / 1.9).floor(), (y / STOREY).floor());
        let (fx, fy) = (x / 1.9 - i, y / STOREY - j);
        let lit = cell(i as i32, j as i32, self.seed ^ 77) < 0.65 * self.weather.lit[1];
        let pane = (0.25..0.75).contains(&fx) && (0.25..0.75).contains(&fy);
        let face = Surface::new(self.end, [0.0, 0.0, -1.0], [0.16, 0.14, 0.13], 6.0);
        if pane && lit {
            return Surface {
                celsius: 9.0,
                ..face.glowing([0.75, 0.52, 0.26])
            };
        }
        face
    }

    /// Walls differ in brick and plaster to the eye; to the thermal camera they are plain, and
    /// windows leak the warmth of the rooms behind them.
    fn facade(&self, ray: &Ray, sign: f32, house: &House, z: f32) -> Surface {
        let y = ray.y(z);
        // Reading direction: along the street on the left, back towards us on the right.
        let along = if sign < 0.0 {
            z - house.from
        } else {
            house.to - z
        };
        let width = house.to - house.from;
        let n = [-sign, 0.0, 0.0];
        let mut tone = 0.8 + 0.4 * fbm(z * 0.6, y * 0.6, 3, house.seed);
        let row = (y / 0.17).floor();
        let brick = along / 0.44 + if row as i32 & 1 == 0 { 0.0 } else { 0.5 };
        if house.brick {
            let mortar = y / 0.17 - row < 0.14 || brick - brick.floor() < 0.06;
            let b = 0.7 + 0.6 * cell(brick.floor() as i32, row as i32, house.seed);
            let b = if mortar { 1.5 } else { b };
            tone *= mix(1.0, b, ray.detail(z, 0.17));
        }
        let cornice =
            y > house.height - 0.45 || (GROUND_FLOOR - 0.1..GROUND_FLOOR + 0.12).contains(&y);
        let damp = fbm(z * 0.35, y * 0.35, 3, house.seed ^ 6) - 0.5;
        let base = house.celsius + 1.6 * smoothstep(3.0, 0.0, y) + 2.0 * damp;
        let gutter = along < 0.12;
        let colour = if cornice {
            [0.36, 0.34, 0.31]
        } else {
            scale(house.wall, tone * if gutter { 0.4 } else { 1.0 })
        };
        let wall = Surface::new(z, n, colour, base - if cornice { 0.8 } else { 0.0 });
        if y < GROUND_FLOOR {
            return match &house.shop {
                Some(shop) => shop_front(wall, house, shop, along, y, width),
                None => doors(wall, house, along, y),
            };
        }
        upper_floor(wall, house, along, y, width)
    }
}

fn upper_floor(wall: Surface, house: &House, along: f32, y: f32, width: f32) -> Surface {
    let bays = (width / house.bay).floor().max(1.0);
    let (bx, fy) = (along / width * bays, (y - GROUND_FLOOR) / STOREY);
    let (i, j) = (bx.floor(), fy.floor());
    let (fx, fy) = (bx - i, fy - j);
    let (hx, hy) = ((fx - 0.5).abs(), (fy - 0.5).abs());
    if (j + 1.0) * STOREY + GROUND_FLOOR > house.height - 0.3 || hx > 0.29 || hy > 0.33 {
        let ledge = hx < 0.32 && (0.12..0.17).contains(&fy);
        let albedo = if ledge {
            [0.4, 0.38, 0.35]
        } else {
            wall.albedo
        };
        return Surface { albedo, ..wall };
    }
    let draw = |k| cell(i as i32, j as i32, house.seed ^ k);
    let lit = draw(1) < house.lit;
    // Heated rooms leak through the panes; the frame follows the wall.
    let leak = if lit {
        4.5 + 3.0 * draw(4)
    } else {
        1.5 + 2.0 * draw(4)
    };
    if hx > 0.25 || hy > 0.295 || hx < 0.018 || (fy - 0.62).abs() < 0.015 {
        let albedo = [0.42, 0.41, 0.38];
        return Surface {
            albedo,
            celsius: wall.celsius + 0.4 * leak,
            ..wall
        };
    }
    let celsius = wall.celsius + leak;
    if !lit {
        let sheen = scale([0.010, 0.014, 0.022], 0.5 + fy);
        return Surface {
            albedo: [0.02; 3],
            celsius,
            ..wall
        }
        .glowing(sheen)
        .shiny(0.9);
    }
    let hue = mix3([1.0, 0.62, 0.26], [1.0, 0.86, 0.60], draw(2));
    let curtain = smoothstep(0.10, 0.16, hx) * 0.6 * draw(3);
    let blind = if draw(5) < 0.3 && fy > 0.55 {
        0.45
    } else {
        1.0
    };
    let level = (0.45 + 0.9 * draw(6)) * (1.0 - curtain) * blind * (0.75 + 0.5 * fy);
    Surface {
        albedo: [0.1; 3],
        celsius,
        ..wall
    }
    .glowing(scale(hue, level))
    .shiny(0.92)
}

fn shop_front(
    wall: Surface,
    house: &House,
    shop: &Shop,
    along: f32,
    y: f32,
    width: f32,
) -> Surface {
    if (3.15..3.85).contains(&y) && (0.4..width - 0.4).contains(&along) {
        // A lit board: its lettering is light, not warmth.
        let pitch = 0.78;
        let first = (width - pitch * shop.word.len() as f32) * 0.5;
        let place = (along - first) / pitch;
        let which = shop.word.as_bytes().get(place.max(0.0) as usize);
        let ink = place >= 0.0
            && which.is_some_and(|&l| {
                letter(l, (place - place.floor()) * 1.3 - 0.15, (y - 3.25) / 0.5)
            });
        let lit = if shop.lit { 1.0 } else { 0.03 };
        let light = scale(shop.sign, lit * if ink { 3.0 } else { 0.06 });
        let celsius = wall.celsius + 3.5;
        return Surface {
            albedo: [0.05; 3],
            celsius,
            ..wall
        }
        .glowing(light);
    }
    if !(0.45..3.0).contains(&y) || !(0.5..width - 0.5).contains(&along) {
        return wall;
    }
    let pane = (along - 0.5) / 1.7;
    let (i, f) = (pane.floor(), pane - pane.floor());
    if !(0.04..0.96).contains(&f) || y < 0.55 {
        let albedo = [0.10, 0.09, 0.08];
        return Surface {
            albedo,
            celsius: wall.celsius + 2.0,
            ..wall
        };
    }
    // Goods on shelves: coloured blocks in front of a bright back wall.
    let (gx, gy) = (
        (along * 4.1 + 0.37 * (y * 2.2).floor()).floor() as i32,
        (y * 2.2).floor() as i32,
    );
    let pick = cell(gx, gy, house.seed ^ 8);
    let shelf = y * 2.2 - (y * 2.2).floor();
    let goods = y < 2.25 && pick < 0.75 && shelf < 0.35 + 0.7 * pick;
    let hue: Vec3 = std::array::from_fn(|c| {
        0.10 + 0.25 * pick + 0.32 * cell(gx, gy, house.seed ^ (20 + c as u32))
    });
    let lamp = 0.35 + 0.95 * smoothstep(0.6, 3.0, y) + 0.2 * (cell(i as i32, 0, house.seed) - 0.5);
    let light = scale(shop.light, 0.62 * lamp * if shop.lit { 1.0 } else { 0.02 });
    let light = if shelf > 0.93 && y < 2.3 {
        scale(light, 0.55)
    } else if goods {
        std::array::from_fn(|c| light[c] * hue[c])
    } else {
        light
    };
    let celsius = wall.celsius + 6.0 + 1.5 * smoothstep(0.6, 2.8, y);
    Surface {
        albedo: [0.1; 3],
        celsius,
        ..wall
    }
    .glowing(light)
    .shiny(0.92)
}

fn doors(wall: Surface, house: &House, along: f32, y: f32) -> Surface {
    let at = (along - 1.2) / 3.6;
    let (i, f) = (at.floor(), (at - at.floor()) * 3.6);
    let door = cell(i as i32, 9, house.seed) < 0.4;
    if door && (1.0..2.1).contains(&f) && y < 2.4 {
        let panel = (1.15..1.95).contains(&f) && (y % 1.1) > 0.2;
        let albedo = if panel {
            [0.10, 0.05, 0.03]
        } else {
            [0.15, 0.08, 0.05]
        };
        return Surface {
            albedo,
            celsius: wall.celsius + 2.4,
            ..wall
        };
    }
    if !door && (0.8..2.3).contains(&f) && (1.2..2.9).contains(&y) {
        let frame =
            !(0.88..2.22).contains(&f) || !(1.28..2.82).contains(&y) || (f - 1.55).abs() < 0.04;
        let lit = cell(i as i32, 10, house.seed) < 0.4;
        if frame {
            return Surface {
                albedo: [0.4; 3],
                celsius: wall.celsius + 1.0,
                ..wall
            };
        }
        let leak = if lit { 5.0 } else { 2.2 };
        let glow = if lit {
            [0.8, 0.52, 0.24]
        } else {
            [0.008, 0.011, 0.017]
        };
        return Surface {
            albedo: [0.03; 3],
            celsius: wall.celsius + leak,
            ..wall
        }
        .glowing(glow);
    }
    wall
}
