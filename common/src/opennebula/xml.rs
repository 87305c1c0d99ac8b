//! OpenNebula's XML as a tree, read once. Every value that is taken from it is named by its
//! path (`VM/TEMPLATE/NIC[1]/MAC`) when it is missing or wrong.
//!
//! Rules, from what `oned` writes: values are CDATA or escaped text; an empty element is an
//! absent value; DISK and NIC are repeated siblings in any order; a single value that comes
//! twice is refused, because first and last would be two different readings. A document type
//! is refused, so no entity is ever expanded.

use std::fmt;
use std::str::FromStr;

use quick_xml::Reader;
use quick_xml::events::Event;
use thiserror::Error;

/// The largest document about one object that is read, in bytes: `oned` sends some tens of kilobytes, and
/// a VM with a hundred NICs and large context values stays below 10 MB. With [`ELEMENTS`] it keeps a
/// driver below 64 MiB of memory, whatever a tenant writes into a template (attack 7).
pub const LIMIT: usize = 12 * 1024 * 1024;

/// The most elements of such a document. A VM with a hundred disks and NICs has ten thousand.
const ELEMENTS: usize = 50_000;

/// The same for a list of objects that administrators make.
const LIST_LIMIT: usize = 64 * 1024 * 1024;
const LIST_ELEMENTS: usize = 4_000_000;

/// The longest single value, in bytes: what the kernel takes as one argument of a command. Values of
/// CONTEXT may be longer ([`Node::entries`]).
const VALUE: usize = 128 * 1024;

/// The deepest nesting that is read; OpenNebula's own objects have seven levels.
const DEPTH: usize = 64;

/// Why a document or one of its values was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum XmlError {
    /// More bytes than are read.
    #[error("the XML has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("the XML is not UTF-8: byte {0} is wrong")]
    NotUtf8(usize),
    /// Not well formed, or with a construct that OpenNebula does not write.
    #[error("the XML is damaged at byte {at}: {problem}")]
    Damaged {
        /// Where reading stopped.
        at: u64,
        /// What was found.
        problem: String,
    },
    /// Another document than the one asked for.
    #[error("the XML's root is {found}, expected {expected}")]
    Root {
        /// The root's name.
        found: String,
        /// The name that was asked for.
        expected: &'static str,
    },
    /// A value that has to be there is not.
    #[error("{path} is missing in the XML")]
    Missing {
        /// The element.
        path: String,
    },
    /// A single value that is given more than once.
    #[error("{path} is given {count} times in the XML, expected once")]
    Repeated {
        /// The element.
        path: String,
        /// How often it is there.
        count: usize,
    },
    /// A value of the wrong kind.
    #[error("{path} in the XML: {problem}")]
    Wrong {
        /// The element.
        path: String,
        /// What is wrong with its value, and what was expected.
        problem: String,
    },
}

/// One element: its text, and its children in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document about one object, whose root is `root`.
    pub fn document(bytes: &[u8], root: &'static str) -> Result<Self, XmlError> {
        Self::within(bytes, root, LIMIT, ELEMENTS)
    }

    /// Reads a list of objects that administrators make, such as hosts.
    pub fn list(bytes: &[u8], root: &'static str) -> Result<Self, XmlError> {
        Self::within(bytes, root, LIST_LIMIT, LIST_ELEMENTS)
    }

    fn within(
        bytes: &[u8],
        root: &'static str,
        limit: usize,
        elements: usize,
    ) -> Result<Self, XmlError> {
        if bytes.len() > limit {
            let bytes = bytes.len();
            return Err(XmlError::TooLarge { bytes, limit });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| XmlError::NotUtf8(e.valid_up_to()))?;
        let element = Self::parse(text, elements)?;
        if element.name == root {
            Ok(element)
        } else {
            Err(XmlError::Root {
                found: element.name,
                expected: root,
            })
        }
    }

    fn parse(text: &str, elements: usize) -> Result<Self, XmlError> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Element> = Vec::new();
        let mut root: Option<Element> = None;
        let mut count = 0;
        loop {
            let event = reader.read_event();
            let at = reader.buffer_position();
            let damaged = |problem: &dyn fmt::Display| XmlError::Damaged {
                at,
                problem: problem.to_string(),
            };
            let event = event.map_err(|e| damaged(&e))?;
            if root.is_some()
                && matches!(event, Event::Start(_) | Event::Empty(_) | Event::CData(_))
            {
                return Err(damaged(&"content after the root element"));
            }
            if matches!(event, Event::Start(_) | Event::Empty(_)) {
                count += 1;
                if count > elements {
                    return Err(damaged(&format_args!("more than {elements} elements")));
                }
            }
            match event {
                Event::Start(start) => {
                    if open.len() >= DEPTH {
                        return Err(damaged(&format_args!("more than {DEPTH} nested elements")));
                    }
                    open.push(Element {
                        name: start.name().0.to_owned(),
                        ..Self::default()
                    });
                }
                Event::Empty(start) => {
                    let element = Element {
                        name: start.name().0.to_owned(),
                        ..Self::default()
                    };
                    Self::close(element, &mut open, &mut root);
                }
                Event::End(_) => {
                    let element = open
                        .pop()
                        .ok_or_else(|| damaged(&"an end without a start"))?;
                    Self::close(element, &mut open, &mut root);
                }
                Event::Text(value) => match open.last_mut() {
                    Some(element) => element.text.push_str(&value.xml10_content()),
                    None if value.xml10_content().trim().is_empty() => {}
                    None => return Err(damaged(&"text outside the root element")),
                },
                Event::CData(value) => match open.last_mut() {
                    Some(element) => element.text.push_str(&value.into_inner()),
                    None => return Err(damaged(&"text outside the root element")),
                },
                Event::GeneralRef(reference) => {
                    let name = reference.into_inner();
                    let value = quick_xml::escape::unescape(&format!("&{name};"))
                        .map_err(|e| damaged(&e))?
                        .into_owned();
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&value),
                        None => return Err(damaged(&"text outside the root element")),
                    }
                }
                Event::DocType(_) => {
                    return Err(damaged(&"a document type, which OpenNebula does not write"));
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => {
                    return match (open.last(), root) {
                        (None, Some(root)) => Ok(root),
                        (Some(element), _) => Err(damaged(&format_args!(
                            "ends within element {}",
                            element.name
                        ))),
                        (None, None) => Err(damaged(&"no element in it")),
                    };
                }
            }
        }
    }

    fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
        match open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => *root = Some(element),
        }
    }

    /// The element as the start of paths.
    pub fn node(&self) -> Node<'_> {
        Node {
            element: self,
            path: self.name.clone(),
        }
    }
}

/// An element together with its path from the root.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    element: &'a Element,
    path: String,
}

impl<'a> Node<'a> {
    /// The element's name.
    pub fn name(&self) -> &'a str {
        &self.element.name
    }

    /// Where it stands.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// An error that names `child` of this element.
    pub fn wrong(&self, child: &str, problem: impl fmt::Display) -> XmlError {
        XmlError::Wrong {
            path: format!("{}/{child}", self.path),
            problem: problem.to_string(),
        }
    }

    /// The one child of that name; an error when there are more.
    pub fn child(&self, name: &str) -> Result<Option<Node<'a>>, XmlError> {
        let mut found = self.element.children.iter().filter(|c| c.name == name);
        let first = found.next();
        match found.count() {
            0 => Ok(first.map(|element| Node {
                element,
                path: format!("{}/{name}", self.path),
            })),
            more => Err(XmlError::Repeated {
                path: format!("{}/{name}", self.path),
                count: more + 1,
            }),
        }
    }

    /// The one child of that name, which has to be there.
    pub fn required_child(&self, name: &str) -> Result<Node<'a>, XmlError> {
        self.child(name)?.ok_or_else(|| XmlError::Missing {
            path: format!("{}/{name}", self.path),
        })
    }

    /// All children of that name, numbered from 0 in their paths.
    pub fn children<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Node<'a>> + 's {
        self.element
            .children
            .iter()
            .filter(move |c| c.name == name)
            .enumerate()
            .map(move |(i, element)| Node {
                element,
                path: format!("{}/{name}[{i}]", self.path),
            })
    }

    /// Every child, in the order of the document.
    pub fn all(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let path = self.path.clone();
        self.element.children.iter().map(move |element| Node {
            element,
            path: format!("{path}/{}", element.name),
        })
    }

    /// The element's own text without blanks around it; empty is absent.
    pub fn value_text(&self) -> Option<&'a str> {
        Some(self.element.text.trim()).filter(|text| !text.is_empty())
    }

    /// Whether there is nothing in it: no text, and no child that has something.
    pub fn is_empty(&self) -> bool {
        self.value_text().is_none() && self.all().all(|child| child.is_empty())
    }

    /// The element with all that is in it.
    pub fn element(&self) -> &'a Element {
        self.element
    }

    /// Every child with its name and its text as it is, for elements whose names users choose.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.element
            .children
            .iter()
            .map(|c| (c.name.as_str(), c.text.as_str()))
    }

    /// The text of the one child of that name without blanks around it; empty is absent.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, XmlError> {
        let text = self.child(name)?.map(|n| n.element.text.trim());
        match text.filter(|text| !text.is_empty()) {
            Some(text) if text.len() > VALUE => Err(self.wrong(
                name,
                format_args!("it has {} bytes, and at most {VALUE} are read", text.len()),
            )),
            text => Ok(text),
        }
    }

    /// The text of a child that has to be there.
    pub fn required_text(&self, name: &str) -> Result<&'a str, XmlError> {
        self.text(name)?.ok_or_else(|| XmlError::Missing {
            path: format!("{}/{name}", self.path),
        })
    }

    /// The value of a child, read by `read`.
    pub fn read<T, E: fmt::Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, XmlError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => read(text).map(Some).map_err(|e| self.wrong(name, e)),
        }
    }

    /// The value of a child as a type of its own.
    pub fn value<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, XmlError> {
        self.read(name, str::parse)
    }

    /// The value of a child that has to be there.
    pub fn required<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, XmlError> {
        self.value(name)?.ok_or_else(|| XmlError::Missing {
            path: format!("{}/{name}", self.path),
        })
    }

    /// A switch: YES/NO, 1/0, TRUE/FALSE in any case; absent is NO.
    pub fn switch(&self, name: &str) -> Result<bool, XmlError> {
        Ok(self.read(name, read_switch)?.unwrap_or(false))
    }
}

fn read_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_uppercase().as_str() {
        "YES" | "TRUE" | "1" => Ok(true),
        "NO" | "FALSE" | "0" => Ok(false),
        _ => Err(format!(
            "\"{}\" is not YES or NO",
            text.chars().take(40).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Element, XmlError> {
        Element::document(text.as_bytes(), "VM")
    }

    #[test]
    fn cdata_entities_and_plain_text_are_one_value() {
        let vm = tree(
            "<?xml version=\"1.0\"?>\n<VM><NAME>a &amp; <![CDATA[<b> & ']]>&#x41;</NAME></VM>\n",
        )
        .unwrap();
        assert_eq!(vm.node().text("NAME").unwrap(), Some("a & <b> & 'A"));
    }

    #[test]
    fn repeated_elements_may_be_mixed_and_are_numbered() {
        let vm = tree("<VM><DISK><ID>0</ID></DISK><NIC/><DISK><ID>x</ID></DISK></VM>").unwrap();
        let node = vm.node();
        let disks: Vec<_> = node.children("DISK").collect();
        assert_eq!(disks.len(), 2);
        let error = disks[1]
            .required::<crate::DiskId>("ID")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "VM/DISK[1]/ID in the XML: \"x\" is not a whole number"
        );
    }

    #[test]
    fn a_section_is_empty_when_nothing_in_it_has_text() {
        let vm = tree("<VM><A/><B> <C/> </B><D>\n<E><F>x</F></E></D></VM>").unwrap();
        let found: Vec<_> = vm.node().all().map(|n| (n.name(), n.is_empty())).collect();
        assert_eq!(found, [("A", true), ("B", true), ("D", false)]);
        assert_eq!(vm.node().element(), &vm);
    }

    #[test]
    fn a_missing_value_and_a_repeated_one_are_named() {
        let vm = tree("<VM><ID/><NAME>a</NAME><NAME>b</NAME></VM>").unwrap();
        assert_eq!(
            vm.node().required_text("ID").unwrap_err().to_string(),
            "VM/ID is missing in the XML"
        );
        assert_eq!(
            vm.node().text("NAME").unwrap_err().to_string(),
            "VM/NAME is given 2 times in the XML, expected once"
        );
    }

    #[test]
    fn attack_7_document_types_wrong_roots_trailing_content_and_depth_are_refused() {
        let bomb = "<!DOCTYPE VM [<!ENTITY a \"aa\">]><VM>&a;</VM>";
        for bad in [
            bomb,
            "<VM>&a;</VM>",
            "<IMAGE/>",
            "<VM/><VM/>",
            "<VM/>x",
            "<VM>",
            "</VM>",
            "",
            "<VM><A></B></VM>",
        ] {
            assert!(tree(bad).is_err(), "{bad}");
        }
        let deep = format!("<VM>{}{}</VM>", "<A>".repeat(10_000), "</A>".repeat(10_000));
        assert!(tree(&deep).unwrap_err().to_string().contains("nested"));
        assert_eq!(
            Element::document(b"<VM>\xff</VM>", "VM"),
            Err(XmlError::NotUtf8(4))
        );
    }

    #[test]
    fn a_document_is_read_up_to_its_limit() {
        assert_eq!(LIMIT, 12_582_912);
        let mut bytes = b"</VM>".to_vec();
        bytes.resize(LIMIT, b' ');
        let refused = Element::document(&bytes, "VM").unwrap_err();
        assert!(matches!(refused, XmlError::Damaged { .. }), "{refused}");
        bytes.extend(b"  ");
        let refused = Element::document(&bytes, "VM").unwrap_err();
        let (bytes, limit) = (LIMIT + 2, LIMIT);
        assert_eq!(refused, XmlError::TooLarge { bytes, limit });
    }

    #[test]
    fn ten_megabytes_of_it_are_read_and_no_crowd_of_elements() {
        let nic = format!("<NIC><MAC>{}</MAC></NIC>", "x".repeat(500));
        let text = format!("<VM>{}</VM>", nic.repeat(10 * 1024 * 1024 / nic.len()));
        let vm = tree(&text).unwrap();
        assert!(vm.node().children("NIC").count() > 19_000);
        let crowd = |count: usize| format!("<VM>{}</VM>", "<A/>".repeat(count - 1));
        assert!(tree(&crowd(ELEMENTS)).is_ok());
        let refused = tree(&crowd(ELEMENTS + 1)).unwrap_err().to_string();
        assert!(refused.contains("more than 50000 elements"), "{refused}");
        let list = crowd(ELEMENTS + 1);
        let list = Element::list(list.as_bytes(), "VM").unwrap();
        assert_eq!(list.node().children("A").count(), ELEMENTS);
        // As docs/faults-and-attacks.md promises them to administrators.
        assert_eq!((LIMIT >> 20, LIST_LIMIT >> 20, VALUE >> 10), (12, 64, 128));
    }

    #[test]
    fn attack_7_a_value_is_as_long_as_an_argument_at_most() {
        let text = |length: usize| format!("<VM><A>{}</A></VM>", "x".repeat(length));
        let (long, longer) = (tree(&text(VALUE)).unwrap(), tree(&text(VALUE + 1)).unwrap());
        assert!(long.node().text("A").is_ok());
        let refused = longer.node().text("A").unwrap_err().to_string();
        assert!(refused.contains("VM/A") && refused.len() < 200, "{refused}");
        assert_eq!(longer.node().entries().count(), 1);
    }

    #[test]
    fn switches_read_what_opennebula_and_people_write() {
        let vm = tree("<VM><A>YES</A><B>no</B><C>maybe</C><D>1</D></VM>").unwrap();
        let node = vm.node();
        assert_eq!(node.switch("A"), Ok(true));
        assert_eq!(node.switch("B"), Ok(false));
        assert_eq!(node.switch("D"), Ok(true));
        assert_eq!(node.switch("E"), Ok(false));
        assert!(node.switch("C").is_err());
    }
}
