//! What makes a table of the configuration file: which keys there are, the struct that holds them, and how each is read. Each
//! table stands with the code that says what its values mean.

/// What a field holds, by the method of [`Reader`](super::document::Reader) that reads its key.
macro_rules! held {
    (text) => { Option<$crate::config::source::Given<String>> };
    (integer) => { Option<$crate::config::source::Given<String>> };
    (text_or_integer) => { Option<$crate::config::source::Given<String>> };
    (name) => { Option<$crate::config::source::Given<String>> };
    (boolean) => { Option<$crate::config::source::Given<bool>> };
    (texts) => { Option<$crate::config::inputs::GivenList> };
    (command) => { Option<$crate::config::inputs::GivenList> };
    (variables) => { Option<$crate::config::inputs::GivenList> };
    (texts_by_name) => { std::collections::BTreeMap<String, $crate::config::source::Given<String>> };
    (integers) => { Option<$crate::config::inputs::GivenList> };
    (table $table:ident) => { Option<$table> };
    (section $table:ident) => { $table };
    (tables $table:ident) => { Vec<$table> };
    (named $table:ident) => { std::collections::BTreeMap<String, $table> };
}

/// The same as data.
macro_rules! kind {
    (text) => {
        $crate::config::shape::Kind::Text
    };
    (integer) => {
        $crate::config::shape::Kind::Integer
    };
    (text_or_integer) => {
        $crate::config::shape::Kind::TextOrInteger
    };
    (name) => {
        $crate::config::shape::Kind::Name
    };
    (boolean) => {
        $crate::config::shape::Kind::Boolean
    };
    (texts) => {
        $crate::config::shape::Kind::Texts
    };
    (command) => {
        $crate::config::shape::Kind::Command
    };
    (variables) => {
        $crate::config::shape::Kind::Variables
    };
    (texts_by_name) => {
        $crate::config::shape::Kind::TextsByName
    };
    (integers) => {
        $crate::config::shape::Kind::Integers
    };
    (table $table:ident) => {
        $crate::config::shape::Kind::Table(<$table as $crate::config::document::Table>::SHAPE)
    };
    (section $table:ident) => {
        $crate::config::shape::Kind::Table(<$table as $crate::config::document::Table>::SHAPE)
    };
    (tables $table:ident) => {
        $crate::config::shape::Kind::Tables(<$table as $crate::config::document::Table>::SHAPE)
    };
    (named $table:ident) => {
        $crate::config::shape::Kind::Named(<$table as $crate::config::document::Table>::SHAPE)
    };
}

/// What is said in a field.
macro_rules! said {
    (boolean $field:expr) => {
        $crate::config::shape::Said::Boolean($field.as_ref())
    };
    (texts $field:expr) => {
        $crate::config::shape::Said::List($field.as_ref())
    };
    (command $field:expr) => {
        $crate::config::shape::Said::List($field.as_ref())
    };
    (variables $field:expr) => {
        $crate::config::shape::Said::List($field.as_ref())
    };
    (integers $field:expr) => {
        $crate::config::shape::Said::List($field.as_ref())
    };
    (texts_by_name $field:expr) => {
        $crate::config::shape::Said::ByName(&$field)
    };
    (table $field:expr) => {
        $crate::config::shape::Said::Tables($field.iter().map(|table| (None, table as _)).collect())
    };
    (section $field:expr) => {
        $crate::config::shape::Said::Tables(vec![(None, &$field as _)])
    };
    (tables $field:expr) => {
        $crate::config::shape::Said::Tables($field.iter().map(|table| (None, table as _)).collect())
    };
    (named $field:expr) => {
        $crate::config::shape::Said::Tables(
            $field
                .iter()
                .map(|(name, table)| (Some(name.as_str()), table as _))
                .collect(),
        )
    };
    ($text:ident $field:expr) => {
        $crate::config::shape::Said::Text($field.as_ref())
    };
}

/// A key has the name of its field, unless it is given another one.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// What a value looks like.
macro_rules! form {
    () => { $crate::config::shape::Form::Any };
    (OneOf $($word:literal)*) => { $crate::config::shape::Form::OneOf(&[$($word),*]) };
    (Range $least:literal $most:literal) => { $crate::config::shape::Form::Range($least, $most) };
    ($form:ident) => { $crate::config::shape::Form::$form };
}

/// What holds where a key is left out.
macro_rules! default {
    () => {
        None
    };
    (required) => {
        None
    };
    ($default:tt) => {
        Some(stringify!($default))
    };
}

/// Whether a key must not be left out.
macro_rules! required {
    (required) => {
        true
    };
    ($($default:tt)?) => {
        false
    };
}

/// Each line is `field: how to read its key` or `field = "key": how to read it`, where the last part names a method of
/// [`Reader`](super::document::Reader); it may go on with `as` and what the value looks like, a
/// [`Form`](super::shape::Form), and `default` and what holds without the key, or `required`. The comment before it is what
/// people are told. Then follow the keys that are recognised and refused, each with its reason.
macro_rules! tables {
    ($($(#[$attribute:meta])* $table:ident {
        $($(#[doc = $about:literal])* $field:ident $(= $key:literal)?: $kind:ident $(of $inner:ident)? $(as $form:ident $(($($word:literal),*))?)? $(default $default:tt)?,)*
        $($refused:literal => $why:literal,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Default)]
        pub(crate) struct $table {
            #[allow(dead_code, reason = "not of every table is something said as a whole")]
            pub(crate) place: $crate::config::source::Source,
            $($(#[doc = $about])* pub(crate) $field: $crate::config::table::held!($kind $($inner)?),)*
        }

        impl $crate::config::document::Table for $table {
            const SHAPE: &'static $crate::config::shape::Shape = &$crate::config::shape::Shape {
                keys: &[$($crate::config::shape::Key {
                    name: $crate::config::table::key!($field $($key)?),
                    kind: $crate::config::table::kind!($kind $($inner)?),
                    form: $crate::config::table::form!($($form $($($word)*)?)?),
                    default: $crate::config::table::default!($($default)?),
                    required: $crate::config::table::required!($($default)?),
                    about: concat!($($about),*),
                }),*],
                refused: &[$(($refused, $why)),*],
            };

            fn read(reader: &$crate::config::document::Reader<'_>, problems: &mut $crate::config::problem::Problems) -> Self {
                Self {
                    place: reader.place().clone(),
                    $($field: reader.$kind($crate::config::table::key!($field $($key)?), problems),)*
                }
            }
        }

        impl $crate::config::shape::Written for $table {
            fn said(&self) -> Vec<(&'static $crate::config::shape::Key, $crate::config::shape::Said<'_>)> {
                let said = [$($crate::config::table::said!($kind self.$field)),*];
                <Self as $crate::config::document::Table>::SHAPE.keys.iter().zip(said).collect()
            }
        }
    )*};
}

pub(crate) use {default, form, held, key, kind, required, said, tables};
