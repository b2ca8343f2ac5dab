//! A compiled schema: what is asked of a value, laid out in the order of Ajv's rule table.

use std::sync::Arc;

use super::ajv::Words;
use super::formats::Format;
use super::pattern::Pattern;
use crate::json::Node;

/// A place in the list of all compiled schemas.
pub(super) type RulesId = usize;

/// Compiled `true` and `{}`, always the first of the list.
pub(super) const ALWAYS: RulesId = 0;

/// One schema. Groups come in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The schema `false`.
    pub(super) never: Option<Arc<Words>>,
    /// The type, when it is asked for before everything else.
    pub(super) kinds: Option<(Kinds, Arc<Words>)>,
    /// The type, when it is asked for where the group of its keywords stands.
    pub(super) deferred: Option<(Kind, Arc<Words>)>,
    pub(super) any: Vec<AnyRule>,
    pub(super) number: Vec<NumberRule>,
    pub(super) string: Vec<StringRule>,
    pub(super) array: Vec<ArrayRule>,
    pub(super) object: Option<Box<ObjectRules>>,
}

/// The types that have keywords of their own, in the order of their groups, then the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Number,
    String,
    Array,
    Object,
    Null,
    Boolean,
    Integer,
}

impl Kind {
    const ALL: [(Self, &str); 7] = [
        (Self::Number, "number"),
        (Self::String, "string"),
        (Self::Array, "array"),
        (Self::Object, "object"),
        (Self::Null, "null"),
        (Self::Boolean, "boolean"),
        (Self::Integer, "integer"),
    ];

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(kind, _)| *kind)
    }

    /// The type of a value; an integer is a number.
    pub(super) const fn of(value: &Node<'_>) -> Self {
        match value {
            Node::Null => Self::Null,
            Node::Bool(_) => Self::Boolean,
            Node::Number(_) => Self::Number,
            Node::String(_) => Self::String,
            Node::Array(_) => Self::Array,
            Node::Object(_) => Self::Object,
        }
    }
}

/// A set of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    #[must_use]
    pub(super) const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub(super) fn hold(self, value: &Node<'_>) -> bool {
        match value {
            Node::Number(number) => {
                self.has(Kind::Number) || self.has(Kind::Integer) && number.fract() == 0.0
            }
            Node::Null | Node::Bool(_) | Node::String(_) | Node::Array(_) | Node::Object(_) => {
                self.has(Kind::of(value))
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum AnyRule {
    /// A `$ref` whose target starts its paths anew.
    Call(RulesId),
    /// A `$ref` whose target stands in its place.
    Inline(RulesId),
    /// `const` and `enum`.
    OneOfValues(Vec<Node<'static>>, Arc<Words>),
    Not(RulesId, Arc<Words>),
    AnyOf(Vec<RulesId>, Arc<Words>),
    OneOf(Vec<RulesId>, Arc<Words>),
    AllOf(Vec<RulesId>),
    If(Box<Choice>),
}

/// `if`, `then`, `else`.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) condition: RulesId,
    pub(super) then: (RulesId, Arc<Words>),
    pub(super) otherwise: (RulesId, Arc<Words>),
}

#[derive(Debug)]
pub(super) enum NumberRule {
    Limit(Comparison, f64, Arc<Words>),
    MultipleOf(f64, Arc<Words>),
}

/// What a number must be to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    AtMost,
    AtLeast,
    Below,
    Above,
}

impl Comparison {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::Above => ">",
        }
    }

    pub(super) fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtMost => value <= limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::Above => value > limit,
        }
    }
}

/// A bound of a length or a count.
#[derive(Debug)]
pub(super) struct Count {
    /// [`Comparison::AtMost`] or [`Comparison::AtLeast`].
    pub(super) comparison: Comparison,
    pub(super) limit: f64,
    pub(super) words: Arc<Words>,
}

impl Count {
    #[expect(clippy::cast_precision_loss, reason = "no text or list here has 2^53 parts")]
    pub(super) fn holds(&self, count: usize) -> bool {
        self.comparison.holds(count as f64, self.limit)
    }

    /// Whether a text's characters are of the right number.
    pub(super) fn holds_for(&self, text: &str) -> bool {
        // A character takes one to four bytes, so that the size often decides.
        let (least, most) = (text.len().div_ceil(4), text.len());
        let holds = self.holds(least);
        if holds == self.holds(most) { holds } else { self.holds(text.chars().count()) }
    }
}

#[derive(Debug)]
pub(super) enum StringRule {
    Length(Count),
    Pattern(Pattern, Arc<Words>),
    Format(Format, Arc<Words>),
}

#[derive(Debug)]
pub(super) enum ArrayRule {
    Count(Count),
    /// `prefixItems`, or `items` as a list.
    Tuple(Tuple),
    /// The items behind a tuple of this many.
    Behind(usize, RulesId),
    /// No items behind a tuple of this many.
    NoneBehind(usize, Arc<Words>),
    Each(RulesId),
    Contains(Contains),
    /// `uniqueItems`, among the items of these types when that is known and simple.
    Unique(Option<Kinds>, Arc<Words>),
}

#[derive(Debug)]
pub(super) struct Tuple {
    /// The places whose schemas ask anything.
    pub(super) schemas: Vec<(usize, RulesId)>,
    pub(super) memory: usize,
}

#[derive(Debug)]
pub(super) struct Contains {
    pub(super) rules: RulesId,
    pub(super) min: f64,
    pub(super) max: Option<f64>,
    pub(super) words: Arc<Words>,
    /// Where Ajv leaves its last answer, when one valid item is enough.
    pub(super) memory: Option<usize>,
}

/// What is asked of an object's members.
#[derive(Debug, Default)]
pub(super) struct ObjectRules {
    /// Every name that a rule below speaks of.
    pub(super) names: super::names::Names,
    /// For each name its schema under `properties`.
    pub(super) properties: Vec<Option<RulesId>>,
    /// One bit for each name that is required, when there are at most 64 names.
    pub(super) required: u64,
    /// Whether rules are but `Required` and `Properties`, over at most 64 names.
    pub(super) is_plain: bool,
    pub(super) rules: Vec<ObjectRule>,
}

/// Slots of names, and the words for those that are missing.
pub(super) type Slots = Vec<(usize, Arc<Words>)>;

#[derive(Debug)]
pub(super) enum ObjectRule {
    Count(Count),
    /// Slots of names that must be there, and the words for those that are not.
    Required(Slots),
    Names(RulesId, Arc<Words>),
    Additional(Additional),
    /// `dependentRequired`, or `dependencies` on names: the trigger, and what it asks for.
    NameDependencies(Vec<(usize, Slots)>),
    /// `dependentSchemas`, or `dependencies` on schemas.
    SchemaDependencies(Vec<(usize, RulesId)>),
    /// Slots of `properties`, in the schema's order.
    Properties(Vec<(usize, RulesId)>),
    Patterns(Vec<(Pattern, RulesId)>),
}

#[derive(Debug)]
pub(super) struct Additional {
    /// Nothing when no further members may be.
    pub(super) rules: Option<RulesId>,
    pub(super) but: Vec<Pattern>,
    pub(super) words: Arc<Words>,
}

impl Rules {
    /// Schemas that this one asks of the same value.
    pub(super) fn same_value(&self) -> Vec<RulesId> {
        let mut ids = Vec::new();
        for rule in &self.any {
            match rule {
                AnyRule::Call(id) | AnyRule::Inline(id) | AnyRule::Not(id, _) => ids.push(*id),
                AnyRule::AnyOf(list, _) | AnyRule::OneOf(list, _) | AnyRule::AllOf(list) => {
                    ids.extend(list);
                }
                AnyRule::If(choice) => {
                    ids.extend([choice.condition, choice.then.0, choice.otherwise.0]);
                }
                AnyRule::OneOfValues(..) => {}
            }
        }
        for rule in self.object.iter().flat_map(|object| &object.rules) {
            if let ObjectRule::SchemaDependencies(list) = rule {
                ids.extend(list.iter().map(|(_, id)| *id));
            }
        }
        ids
    }
}
