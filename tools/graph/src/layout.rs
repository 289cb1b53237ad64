//! Puts everything into its place.

use bulkhead_manifest::{Picture, picture::Link};

use crate::{
    boxes::{self, DOT, LABEL_HEIGHT, Label, Role, SubjectBox},
    geometry::{Point, Rectangle},
    lanes,
    lines::{self, Run, Stub},
    middles::{self, LABEL_GAP},
    note,
    order::{self, Connection, Rows},
    rails::{self, OVERHANG, RAIL_DISTANCE},
    scene::{Line, Scene, Text},
    text::{self, Weight},
};

const MARGIN: f64 = 24.0;
const TITLE_SIZE: f64 = 18.0;
const TEXT_SIZE: f64 = 12.0;
/// Where the rows begin, below title and subtitle.
const TOP: f64 = 84.0;
const LEAST_WIDTH: f64 = 640.0;
/// Between a row of boxes and the labels, with no more than one rail.
const BAND: f64 = 64.0;
/// Height of a line for each pixel that it goes aside, at least.
const SLOPE: f64 = 0.12;
const DEVICE_GAP: f64 = 18.0;
const SECTION_GAP: f64 = 44.0;

/// The picture, laid out.
pub(crate) fn scene(picture: &Picture) -> Scene {
    let parts = Parts::new(picture);
    let mut scene = Scene { title: picture.name.clone(), width: 0.0, height: 0.0, shapes: Vec::new() };
    let lanes = lanes::lanes(picture);
    let subtitle = picture.machine.join(DOT);
    let texts =
        text::width(&picture.name, TITLE_SIZE, Weight::Bold).max(text::width(&subtitle, TEXT_SIZE, Weight::Normal));
    let content = parts.place(texts.max(lanes::least_width(&lanes)).max(LEAST_WIDTH).ceil());

    scene.text(Text::new(&picture.name, MARGIN, 38.0, TITLE_SIZE, "text").bold());
    scene.text(Text::new(subtitle, MARGIN, 59.0, TEXT_SIZE, "muted"));
    let mut y = parts.draw(&content, &mut scene) + SECTION_GAP;
    let caption = "CPUs: the part of the time that each may use";
    scene.text(Text::new(caption, MARGIN, y - 10.0, TEXT_SIZE, "muted"));
    y += lanes::draw(&lanes, Rectangle::new(MARGIN, y, content.width, 0.0), &mut scene);
    let note = note::draw(picture, Rectangle::new(MARGIN, y + MARGIN, content.width, 0.0), &mut scene);
    if note > 0.0 {
        y += MARGIN + note;
    }
    scene.width = content.width + 2.0 * MARGIN;
    scene.height = y + MARGIN;
    scene
}

/// What stands in the rows, and in which order.
pub(crate) struct Parts<'p> {
    pub(crate) boxes: Vec<SubjectBox>,
    pub(crate) labels: Vec<Label>,
    links: Vec<&'p Link>,
    /// Who has text shown by whom.
    stubs: Vec<Stub>,
    /// Partitions that show text.
    pub(crate) consoles: Vec<usize>,
    pub(crate) rows: Rows,
}

/// Where the rows are.
pub(crate) struct Places {
    pub(crate) boxes: Vec<Rectangle>,
    labels: Vec<Rectangle>,
    width: f64,
    /// Where the first rail goes down beside the labels.
    pub(crate) rail: f64,
}

impl<'p> Parts<'p> {
    fn new(picture: &'p Picture) -> Self {
        let subjects = &picture.subjects;
        let links: Vec<_> = picture.links.iter().filter(|link| !link.ends.is_empty()).collect();
        let shown = subjects.iter().enumerate();
        let stubs: Vec<_> =
            shown.filter_map(|(subject, shown)| Some(Stub { subject, console: shown.console? })).collect();
        let is_console = |subject: &usize| stubs.iter().any(|stub| stub.console == *subject);
        let roles = boxes::roles(picture);
        let (lower, upper): (Vec<_>, Vec<_>) =
            (0..subjects.len()).partition(|subject| roles[*subject] == Role::Service);
        // Rails come from the right.
        let (consoles, mut lower): (Vec<_>, Vec<_>) = lower.into_iter().partition(is_console);
        lower.extend(&consoles);
        let ends = links.iter().enumerate().flat_map(|(label, link)| link.ends.iter().map(move |end| (label, end)));
        let connections: Vec<_> = ends.map(|(label, end)| Connection { subject: end.subject, label }).collect();
        let start = Rows { upper, labels: (0..links.len()).collect(), lower };
        Self {
            boxes: subjects.iter().zip(&roles).map(|(subject, role)| SubjectBox::new(subject, *role)).collect(),
            labels: links.iter().map(|link| Label::new(link)).collect(),
            rows: order::order(start, &connections, consoles.len()),
            links,
            stubs,
            consoles,
        }
    }

    /// Who has a line to which label.
    pub(crate) fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        let links = self.links.iter().enumerate();
        links.flat_map(|(label, link)| link.ends.iter().map(move |end| Connection { subject: end.subject, label }))
    }

    /// Number of rails.
    fn rails(&self) -> f64 {
        self.consoles.len() as f64
    }

    /// Moves rows against each other until lines are short, and chooses heights.
    fn place(&self, least_width: f64) -> Places {
        let (boxes, labels) = middles::middles(self);
        let rows = &self.rows;
        let highest = |row: &[usize]| row.iter().map(|index| self.boxes[*index].height).fold(0.0, f64::max);
        // A line that goes far aside takes more height to do so.
        let asides = self.connections().map(|line| (boxes[line.subject] - labels[line.label]).abs());
        let steep = asides.fold(0.0, f64::max) * SLOPE;
        let band = (BAND + RAIL_DISTANCE * (self.rails() - 1.0).max(0.0)).max(steep.round());
        let mut y = TOP;
        let upper_y = y;
        let upper_height = highest(&rows.upper);
        if !rows.upper.is_empty() {
            y += upper_height + if self.labels.is_empty() { band * 0.5 } else { band };
        }
        let label_y = y;
        if !self.labels.is_empty() {
            y += LABEL_HEIGHT + band;
        } else if !self.stubs.is_empty() {
            y += band * 0.5;
        }
        let lower_height = highest(&rows.lower);
        let place = |index: usize| {
            let width = self.boxes[index].width;
            let (y, height) = if rows.upper.contains(&index) { (upper_y, upper_height) } else { (y, lower_height) };
            Rectangle::new((boxes[index] - width / 2.0).round(), y, width, height)
        };
        let label = |index: usize| {
            let width = self.labels[index].width;
            Rectangle::new((labels[index] - width / 2.0).round(), label_y, width, LABEL_HEIGHT)
        };
        let mut places = Places {
            boxes: (0..self.boxes.len()).map(place).collect(),
            labels: (0..self.labels.len()).map(label).collect(),
            width: 0.0,
            rail: 0.0,
        };
        self.align(&mut places, least_width);
        places
    }

    /// Moves everything into the margins, in the middle of what must be wider.
    fn align(&self, places: &mut Places, least_width: f64) {
        let all = || places.boxes.iter().chain(&places.labels);
        let left = all().map(|place| place.x).fold(f64::INFINITY, f64::min);
        let mut right = all().map(Rectangle::right).fold(f64::NEG_INFINITY, f64::max);
        let labels_right = places.labels.iter().map(Rectangle::right).fold(f64::NEG_INFINITY, f64::max);
        // Rails from above go down on the right of all labels.
        let first_console = self.consoles.first().map(|console| places.boxes[*console].x);
        let mut rail = labels_right + LABEL_GAP;
        if let Some(console) = first_console {
            rail = rail.max(console + 2.0 * LABEL_GAP);
            right = right.max(rail + RAIL_DISTANCE * (self.rails() - 1.0));
            let consoles = self.consoles.iter().map(|console| places.boxes[*console].right() + OVERHANG);
            right = consoles.fold(right, f64::max);
        }
        let width = (right - left).max(least_width);
        let shift = (MARGIN - left + (width - (right - left)) / 2.0).round();
        for place in places.boxes.iter_mut().chain(&mut places.labels) {
            place.x += shift;
        }
        places.rail = rail + shift;
        places.width = width;
    }

    /// Draws rows and devices, and returns where they end.
    fn draw(&self, places: &Places, scene: &mut Scene) -> f64 {
        self.draw_lines(places, scene);
        let mut end = places.labels.iter().map(Rectangle::bottom).fold(TOP, f64::max);
        for (subject, place) in self.boxes.iter().zip(&places.boxes) {
            end = end.max(place.bottom());
            if subject.devices_height() > 0.0 {
                let (x, y) = (place.middle().round(), place.bottom() + DEVICE_GAP);
                scene.line(Line::Corners(vec![Point::new(x, place.bottom()), Point::new(x, y)]), "own");
                subject.draw_devices(place.x, y, scene);
                end = end.max(y + subject.devices_height());
            }
            subject.draw(*place, scene);
        }
        for (label, place) in self.labels.iter().zip(&places.labels) {
            label.draw(*place, scene);
        }
        end
    }

    fn draw_lines(&self, places: &Places, scene: &mut Scene) {
        let links = self.links.iter().enumerate();
        let runs: Vec<_> = links
            .flat_map(|(label, link)| {
                let colours = self.labels[label].colours;
                link.ends.iter().map(move |end| Run { subject: end.subject, label, to_subject: end.hears, colours })
            })
            .collect();
        let of_row = |row: &[usize]| {
            let boxes: Vec<_> =
                (0..self.boxes.len()).map(|index| row.contains(&index).then(|| places.boxes[index])).collect();
            let runs: Vec<_> = runs.iter().filter(|run| row.contains(&run.subject)).copied().collect();
            let stubs: Vec<_> = self.stubs.iter().filter(|stub| row.contains(&stub.subject)).copied().collect();
            (boxes, runs, stubs)
        };
        let (boxes, above, stubs_above) = of_row(&self.rows.upper);
        let at_above = lines::between(&boxes, &places.labels, &above, &stubs_above, true, scene);
        let (boxes, below, mut stubs_below) = of_row(&self.rows.lower);
        // Where the rail arrives is kept free, too.
        stubs_below.extend(self.consoles.iter().map(|console| Stub { subject: *console, console: *console }));
        let at_below = lines::between(&boxes, &places.labels, &below, &stubs_below, false, scene);
        let mut rails = Scene { title: String::new(), width: 0.0, height: 0.0, shapes: Vec::new() };
        let ends = |stubs: &[Stub], at: &[f64]| stubs.iter().copied().zip(at.iter().copied()).collect::<Vec<_>>();
        let (above, below) = (ends(&stubs_above, &at_above), ends(&stubs_below, &at_below));
        for (number, console) in self.consoles.iter().enumerate() {
            rails::draw(*console, number, &above, &below, places, &mut rails);
        }
        // Below everything else.
        scene.shapes.splice(0..0, rails.shapes);
    }
}
