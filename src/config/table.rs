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

/// A key has the name of its field, unless it is given another one.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Takes the commands out of a field, by the same word.
macro_rules! take_commands {
    (command $field:expr, $own:ident, $all:ident) => {
        $own.commands.extend(&$field)
    };
    (variables $field:expr, $own:ident, $all:ident) => {
        $own.variables = $field.as_ref()
    };
    (section $field:expr, $own:ident, $all:ident) => {
        $field.commands($all)
    };
    (table $field:expr, $own:ident, $all:ident) => {
        $field.iter().for_each(|table| table.commands($all))
    };
    (tables $field:expr, $own:ident, $all:ident) => {
        $field.iter().for_each(|table| table.commands($all))
    };
    (named $field:expr, $own:ident, $all:ident) => {
        $field.values().for_each(|table| table.commands($all))
    };
    ($other:ident $field:expr, $own:ident, $all:ident) => {};
}

/// Each line is `field: how to read its key` or `field = "key": how to read it`, where the last part names a method of
/// [`Reader`](super::document::Reader); then follow the keys that are recognised and refused, each with its reason.
macro_rules! tables {
    ($($(#[$attribute:meta])* $table:ident {
        $($field:ident $(= $key:literal)?: $kind:ident $(of $inner:ident)?,)*
        $($refused:literal => $why:literal,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Default)]
        pub(crate) struct $table {
            #[allow(dead_code, reason = "not of every table is something said as a whole")]
            pub(crate) place: $crate::config::source::Source,
            $(pub(crate) $field: $crate::config::table::held!($kind $($inner)?),)*
        }

        impl $crate::config::document::Table for $table {
            const SHAPE: &'static $crate::config::document::Shape = &$crate::config::document::Shape {
                keys: &[$($crate::config::table::key!($field $($key)?)),*],
                refused: &[$(($refused, $why)),*],
            };

            fn read(reader: &$crate::config::document::Reader<'_>, problems: &mut $crate::config::problem::Problems) -> Self {
                Self {
                    place: reader.place().clone(),
                    $($field: reader.$kind($crate::config::table::key!($field $($key)?), problems),)*
                }
            }

            #[allow(unused_mut, reason = "not every table has commands of its own")]
            fn commands<'t>(&'t self, all: &mut Vec<$crate::config::secret_place::TableCommands<'t>>) {
                let mut own = $crate::config::secret_place::TableCommands::default();
                $($crate::config::table::take_commands!($kind self.$field, own, all);)*
                all.push(own);
            }

            #[cfg(test)]
            fn keys(header: &str, all: &mut Vec<(String, &'static str)>) {$(
                let key = $crate::config::table::key!($field $($key)?);
                all.push((header.to_owned(), key));
                $(<$inner as $crate::config::document::Table>::keys(&$crate::config::document::header(stringify!($kind), header, key), all);)?
            )*}
        }
    )*};
}

pub(crate) use {held, key, tables, take_commands};
