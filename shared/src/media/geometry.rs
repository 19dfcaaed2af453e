//! [`Geometry`]: the size of a picture after rotation for display.

/// How stored pixels are rotated and mirrored for display: one of the eight values of Exif's tag 0x0112.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

/// The effect of each of the eight values on a point, as rows of a matrix; `y` grows downwards.
const MATRICES: [[i8; 4]; 8] = [
    [1, 0, 0, 1],
    [-1, 0, 0, 1],
    [-1, 0, 0, -1],
    [1, 0, 0, -1],
    [0, 1, 1, 0],
    [0, -1, 1, 0],
    [0, -1, -1, 0],
    [0, 1, -1, 0],
];

impl Orientation {
    /// Pixels are stored as displayed.
    pub const UPRIGHT: Self = Self(1);
    /// The upper half becomes the lower one.
    pub(super) const FLIPPED: Self = Self(4);
    /// Left becomes right.
    pub(super) const MIRRORED: Self = Self(2);
    /// A rotation by 90° counterclockwise.
    pub(super) const QUARTER_LEFT: Self = Self(8);

    /// The orientation with this Exif value, 1 to 8.
    pub fn new(value: u64) -> Option<Self> {
        u8::try_from(value).ok().filter(|value| (1..=8).contains(value)).map(Self)
    }

    /// The orientation of a video's matrix, by the signs of its rows; any other matrix counts as upright.
    pub(super) fn of_matrix(matrix: [i32; 4]) -> Self {
        let signs = matrix.map(|number| number.signum() as i8);
        MATRICES.iter().zip(1..).find(|(matrix, _)| **matrix == signs).map_or(Self::UPRIGHT, |(_, value)| Self(value))
    }

    /// The Exif value, 1 to 8.
    pub fn value(self) -> u8 {
        self.0
    }

    /// Whether width and height are swapped.
    pub fn is_sideways(self) -> bool {
        self.0 > 4
    }

    /// This orientation, followed by another.
    pub(super) fn then(self, next: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.matrix(), next.matrix());
        let both = [e * a + f * c, e * b + f * d, g * a + h * c, g * b + h * d];
        // Rotations and reflections of a rectangle are always one of these eight.
        MATRICES.iter().zip(1..).find(|(matrix, _)| **matrix == both).map_or(self, |(_, value)| Self(value))
    }

    fn matrix(self) -> [i8; 4] {
        MATRICES[usize::from(self.0 - 1)]
    }
}

/// The dimensions of a picture as displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// In pixels, after rotation; may be zero if a header says so.
    pub(super) width: u32,
    /// In pixels, after rotation; may be zero.
    pub(super) height: u32,
    /// How the stored pixels were rotated.
    pub(super) orientation: Orientation,
}

impl Geometry {
    /// A picture that is stored as displayed.
    pub(super) fn upright((width, height): (u32, u32)) -> Self {
        Self { width, height, orientation: Orientation::UPRIGHT }
    }

    /// The same picture, rotated further.
    pub(super) fn turned(self, by: Orientation) -> Self {
        let Self { width, height, orientation } = self;
        let (width, height) = if by.is_sideways() { (height, width) } else { (width, height) };
        Self { width, height, orientation: orientation.then(by) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientations_compose_as_turns_of_a_picture_do() {
        let value = |value| Orientation::new(value).unwrap();
        let quarter = Orientation::QUARTER_LEFT;
        assert_eq!(quarter.then(quarter), value(3));
        assert_eq!(quarter.then(quarter).then(quarter), value(6));
        assert_eq!(quarter.then(Orientation::FLIPPED), value(5));
        assert_eq!(value(6).then(Orientation::FLIPPED), value(7));
        assert_eq!(Orientation::MIRRORED.then(Orientation::FLIPPED), value(3));
        for number in 1..=8 {
            assert_eq!(value(number).then(Orientation::UPRIGHT), value(number));
        }
    }

    #[test]
    fn only_one_to_eight_are_orientations() {
        let valid: Vec<u64> = (0..300).filter(|value| Orientation::new(*value).is_some()).collect();
        assert_eq!(valid, (1..=8).collect::<Vec<u64>>());
    }
}
