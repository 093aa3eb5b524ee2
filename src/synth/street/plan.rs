//! Who and what is where: the random plan of one street.

use super::super::Dice;
use super::super::noise::{cell, mix, scale};
use super::car::Car;
use super::hour::{Hour, Weather};
use super::person::Person;
use super::props::{Lamp, Sign, Tree};
use super::{Light, Thing, Vec3, unit};

/// One whole street with its lights, ready to be looked at.
pub struct Street {
    pub(super) seed: u32,
    pub(super) weather: Weather,
    pub(super) eye: [f32; 2],
    pub(super) road_half: f32,
    pub(super) wall: f32,
    pub(super) end: f32,
    pub(super) sides: [Vec<House>; 2],
    pub(super) things: Vec<Thing>,
    pub(super) lights: Vec<Light>,
    pub(super) plumes: Vec<Vec3>,
    /// Where running cars warm the road below them: x, z from and z to.
    pub(super) warmed: Vec<[f32; 3]>,
    /// Where cars keep the light off the road: x, z from and z to.
    pub(super) shaded: Vec<[f32; 3]>,
    pub(super) ambient: Vec3,
    pub(super) haze: Vec3,
    pub(super) sky_celsius: f32,
    pub(super) wet: f32,
    pub(super) zebra: f32,
    pub(super) moon: Option<[f32; 2]>,
}

/// One house in the row: its stretch of the street, height, walls and shop.
pub(super) struct House {
    pub from: f32,
    pub to: f32,
    pub height: f32,
    pub seed: u32,
    pub wall: Vec3,
    pub brick: bool,
    pub bay: f32,
    /// Share of the windows that are lit.
    pub lit: f32,
    pub shop: Option<Shop>,
    pub celsius: f32,
}

/// A lit shop on the ground floor.
pub(super) struct Shop {
    pub light: Vec3,
    pub sign: Vec3,
    pub lit: bool,
    pub word: &'static str,
}

const WORDS: [&str; 8] = [
    "CAFE", "HOTEL", "BAR", "DELI", "TAILOR", "BOOKS", "FLORIST", "BAKER",
];
const NEON: [Vec3; 5] = [
    [1.0, 0.16, 0.12],
    [0.10, 0.75, 1.0],
    [0.15, 1.0, 0.45],
    [1.0, 0.30, 0.80],
    [1.0, 0.70, 0.15],
];
const WALLS: [Vec3; 6] = [
    [0.34, 0.15, 0.10],
    [0.30, 0.19, 0.13],
    [0.36, 0.32, 0.25],
    [0.26, 0.27, 0.29],
    [0.40, 0.30, 0.20],
    [0.24, 0.12, 0.09],
];

impl Street {
    /// Throws the dice for one street that suits a picture `aspect` times as wide as high. The hour throws none: the same
    /// dice give the same street by day and by night.
    pub fn new(dice: &mut Dice, aspect: f32, hour: Hour) -> Self {
        let seed = dice.bits();
        let weather = Weather::new(hour, seed);
        let [ambient, haze] = weather.ambient_and_haze();
        let road_half = dice.range(4.5, 5.0);
        let warm_lamps = dice.chance(0.6);
        let mut s = Street {
            seed,
            weather,
            eye: [dice.range(-0.7, 0.9), dice.range(2.1, 2.6)],
            road_half,
            wall: road_half + dice.range(2.4, 3.0),
            end: dice.range(75.0, 110.0),
            sides: [Vec::new(), Vec::new()],
            things: Vec::new(),
            lights: Vec::new(),
            plumes: Vec::new(),
            warmed: Vec::new(),
            shaded: Vec::new(),
            ambient,
            haze,
            sky_celsius: dice.range(-16.0, -10.0),
            wet: weather.dampness() * dice.pick(&[0.15, 0.5, 0.9, 1.0], 0.5),
            zebra: dice.range(13.0, 19.0),
            moon: None,
        };
        if dice.chance(0.5) {
            s.moon = Some([dice.range(-0.16, 0.16), dice.range(0.17, 0.27)]);
        }
        s.build(dice);
        s.hang_lamps(dice, warm_lamps);
        s.park_and_drive(dice);
        s.plant(dice);
        s.populate(dice, aspect);
        s.grow_bushes();
        if !weather.dark() {
            s.lights.clear();
        }
        s.things.sort_by(|a, b| a.near().total_cmp(&b.near()));
        s
    }

    fn build(&mut self, dice: &mut Dice) {
        for side in 0..2 {
            let sign = side as f32 * 2.0 - 1.0;
            let mut from = dice.range(-2.0, 3.0);
            let mut last = 7;
            while from < self.end {
                let to = from + dice.range(7.0, 13.0);
                let tint = (last + 1 + dice.below(5)) % 6;
                last = tint;
                let number = self.sides[side].len() as i32;
                let lit = cell(number, side as i32, self.seed ^ 51) < self.weather.lit[0];
                let shop = (dice.chance(0.62)).then(|| Shop {
                    light: scale(
                        dice.pick(
                            &[[1.0, 0.78, 0.46], [0.95, 0.95, 0.85], [1.0, 0.66, 0.34]],
                            [1.0; 3],
                        ),
                        dice.range(0.7, 1.2),
                    ),
                    sign: dice.pick(&NEON, [1.0; 3]),
                    lit,
                    word: dice.pick(&WORDS, "CAFE"),
                });
                let (mid, h) = ((from + to) * 0.5, dice.range(8.0, 15.5));
                if let Some(shop) = &shop {
                    if lit {
                        self.lights.push(Light {
                            at: [sign * (self.wall + 0.4), 2.4, mid],
                            toward: unit([-sign, -0.35, 0.0]),
                            cone: [0.0, 0.8],
                            colour: scale(shop.light, 2.6),
                            reach: 9.0,
                        });
                    }
                    if mid > 11.0 && dice.chance(0.6) {
                        let low = dice.range(4.0, 4.6);
                        self.things.push(Thing::Sign(Sign {
                            x: sign * (self.wall - 0.62),
                            z: from + 0.6,
                            low,
                            colour: scale(shop.sign, if lit { 1.0 } else { 0.02 }),
                            word: shop.word,
                        }));
                    }
                }
                self.sides[side].push(House {
                    from,
                    to,
                    height: h,
                    seed: dice.bits(),
                    wall: WALLS.get(tint as usize).copied().unwrap_or([0.3; 3]),
                    brick: dice.chance(0.65),
                    bay: dice.range(2.1, 2.9),
                    lit: self.weather.lit[1],
                    shop,
                    celsius: dice.range(4.0, 8.5),
                });
                from = to;
            }
        }
    }

    fn hang_lamps(&mut self, dice: &mut Dice, warm: bool) {
        let colour: Vec3 = if warm {
            [1.0, 0.60, 0.26]
        } else {
            [0.88, 0.95, 1.0]
        };
        let mut z = dice.range(9.0, 15.0);
        let mut sign = if dice.chance(0.5) { 1.0 } else { -1.0 };
        while z < self.end - 10.0 {
            let number = (z * 8.0) as i32;
            let on = cell(number, 3, self.seed ^ 52) < self.weather.lit[2];
            let lamp = Lamp {
                x: sign * (self.road_half + 0.5),
                z,
                arm: -sign * 1.5,
                height: 6.6,
                colour: scale(colour, if on { 1.0 } else { 0.003 }),
                celsius: if on { 21.0 } else { 6.0 },
            };
            if on {
                self.lights.push(Light {
                    at: [lamp.x + lamp.arm, lamp.height - 0.15, z],
                    toward: [0.0, -1.0, 0.0],
                    cone: [0.05, 0.75],
                    colour: scale(colour, 21.0),
                    reach: 26.0,
                });
            }
            self.things.push(Thing::Lamp(lamp));
            z += dice.range(12.0, 17.0);
            sign = -sign;
        }
    }

    fn park_and_drive(&mut self, dice: &mut Dice) {
        // Right-hand traffic: cars on the left come, cars on the right go.
        // Those that move keep off the zebra, or someone would walk through them.
        let mut z = self.zebra + dice.range(4.2, 9.0);
        for _ in 0..1 + dice.below(2) {
            self.add_car(Car::new(dice, -1.6, z, true, true));
            z += dice.range(16.0, 28.0);
        }
        let before = self.zebra - 6.2;
        let mut z = if before > 8.5 && dice.chance(0.6) {
            dice.range(8.5, before)
        } else {
            self.zebra + dice.range(4.0, 7.0)
        };
        for _ in 0..1 + dice.below(2) {
            self.add_car(Car::new(dice, 1.75, z, false, true));
            z += dice.range(14.0, 26.0);
        }
        for sign in [-1.0, 1.0f32] {
            let mut z = dice.range(8.0, 16.0);
            while z < 48.0 {
                let clear = !(self.zebra - 5.2..self.zebra + 3.2).contains(&z);
                if dice.chance(0.6) && clear {
                    let x = sign * (self.road_half - 1.0);
                    self.add_car(Car::new(dice, x, z, sign < 0.0, false));
                }
                z += dice.range(5.8, 9.0);
            }
        }
    }

    fn add_car(&mut self, car: Car) {
        let (from, to) = (car.z, car.z + car.length);
        if car.running {
            self.warmed.push([car.x, from, to]);
            if car.oncoming {
                for side in [-0.66, 0.66] {
                    self.lights.push(Light {
                        at: [car.x + side, 0.68, from - 0.1],
                        toward: unit([0.03, -0.08, -1.0]),
                        cone: [0.86, 0.99],
                        colour: [30.0, 29.0, 25.0],
                        reach: 30.0,
                    });
                }
            } else {
                self.plumes.push([car.x - 0.48, 0.32, from]);
                self.lights.push(Light {
                    at: [car.x, 0.8, from - 0.1],
                    toward: unit([0.0, -0.35, -1.0]),
                    cone: [0.2, 0.9],
                    colour: [1.6, 0.10, 0.06],
                    reach: 8.0,
                });
                self.lights.push(Light {
                    at: [car.x, 0.7, to],
                    toward: unit([0.0, -0.06, 1.0]),
                    cone: [0.86, 0.99],
                    colour: [50.0, 48.0, 42.0],
                    reach: 30.0,
                });
            }
        }
        self.shaded.push([car.x, from, to]);
        self.things.push(Thing::Car(car));
    }

    fn plant(&mut self, dice: &mut Dice) {
        for sign in [-1.0, 1.0f32] {
            let mut z = dice.range(15.0, 26.0);
            while z < 60.0 {
                if dice.chance(0.55) {
                    self.things.push(Thing::Tree(Tree {
                        x: sign * (self.road_half + 1.1),
                        z,
                        radius: dice.range(1.2, 1.7),
                        height: dice.range(4.2, 5.2),
                        seed: dice.bits(),
                    }));
                }
                z += dice.range(9.0, 15.0);
            }
        }
    }

    /// Low bushes along the walls, but not in the evening's street.
    fn grow_bushes(&mut self) {
        if self.weather.hour == Hour::Evening {
            return;
        }
        for (side, sign) in [(0, -1.0), (1, 1.0f32)] {
            for i in 0..24 {
                let draw = |k| cell(i, side, self.seed ^ k);
                if draw(61) < 0.5 {
                    self.things.push(Thing::Tree(Tree {
                        x: sign * (self.wall - mix(0.4, 0.8, draw(62))),
                        z: 5.0 + 1.9 * i as f32 + 1.5 * draw(63),
                        radius: mix(0.45, 0.75, draw(64)),
                        height: mix(0.35, 0.7, draw(65)),
                        seed: (draw(66) * 65_536.0) as u32,
                    }));
                }
            }
        }
    }

    fn populate(&mut self, dice: &mut Dice, aspect: f32) {
        // One crosses on the zebra, one or two are near on the pavement, the rest further off.
        let across = dice.range(-0.8, 3.4);
        let z = self.zebra + 1.4;
        self.things
            .push(Thing::Person(Person::new(dice, across, z, true)));
        let near = 1 + dice.below(2);
        for i in 0..near {
            let sign = if (dice.bits() & 1 == 0) ^ (i == 1) {
                1.0
            } else {
                -1.0
            };
            let x = sign * (self.road_half + dice.range(0.3, 1.0));
            // Near, but inside the picture.
            let edge = (x - self.eye[0]).abs() / (0.42 * aspect);
            let z = edge * 1.08 + dice.range(0.3, 3.0);
            self.things
                .push(Thing::Person(Person::new(dice, x, z, false)));
        }
        for _ in 0..3 + dice.below(4) {
            let sign = if dice.chance(0.5) { 1.0 } else { -1.0 };
            let x = sign * (self.road_half + dice.range(0.3, 2.0));
            let z = dice.range(15.0, 40.0);
            self.things
                .push(Thing::Person(Person::new(dice, x, z, false)));
            if dice.chance(0.35) {
                let beside = Person::new(dice, x + 0.62, z + 0.15, false);
                self.things.push(Thing::Person(beside));
            }
        }
    }
}
