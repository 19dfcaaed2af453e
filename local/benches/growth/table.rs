//! The table and its bounds.

/// One line of the table.
pub struct Row {
    /// What was measured, with its unit.
    pub name: &'static str,
    /// A value for each size, or one for all.
    pub values: Vec<f64>,
    /// What is promised.
    pub bound: Bound,
}

/// What a row must keep to.
pub enum Bound {
    /// Nothing is promised.
    None,
    /// From the smallest size to the largest it may grow by this factor.
    Growth(f64),
    /// Every value must be less.
    Below(f64),
    /// Every value must be this.
    Exactly(f64),
}

impl Row {
    /// A row with one value for all sizes.
    pub fn once(name: &'static str, value: f64, bound: Bound) -> Self {
        Self { name, values: vec![value], bound }
    }

    /// The same without a promise.
    pub fn unbound(self) -> Self {
        Self { bound: Bound::None, ..self }
    }

    fn growth(&self) -> f64 {
        self.values[self.values.len() - 1] / self.values[0]
    }

    /// Whether the bound is kept.
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::None => true,
            Bound::Growth(most) => self.growth() <= most,
            Bound::Below(limit) => self.values.iter().all(|value| *value < limit),
            Bound::Exactly(wanted) => self.values.iter().all(|value| *value == wanted),
        }
    }

    fn print(&self, columns: usize) {
        let mut line = format!("{:<46}", self.name);
        let missing = columns - self.values.len();
        (0..missing).for_each(|_| line.push_str(&format!("{:>11}", "")));
        self.values.iter().for_each(|value| line.push_str(&format!("{value:>11.2}")));
        line.push_str(&if missing == 0 { format!("{:>10.2}", self.growth()) } else { " ".repeat(10) });
        let bound = match self.bound {
            Bound::None => String::new(),
            Bound::Growth(most) => format!("ratio at most {most}"),
            Bound::Below(limit) => format!("below {limit}"),
            Bound::Exactly(wanted) => format!("exactly {wanted}"),
        };
        let broken = if self.holds() { "" } else { "  BROKEN" };
        println!("{}", format!("{line}  {bound}{broken}").trim_end());
    }
}

/// Prints the table.
pub fn print(build: &str, sizes: &[usize], rows: &[Row]) {
    let columns: String = sizes.iter().map(|size| format!("{:>11}", grouped(*size))).collect();
    println!("{build}\n{:<46}{columns}{:>10}  bound", "images in the store", "ratio");
    rows.iter().for_each(|row| row.print(sizes.len()));
}

fn grouped(number: usize) -> String {
    match number / 1_000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1_000),
    }
}
