//! The request that `one_datastore` hands to a datastore's drivers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::attributes::Xml;
use crate::types::ids::DatastoreId;

/// A datastore, as a request describes it.
#[derive(Debug, Clone, Copy)]
pub struct Datastore<'a> {
    /// ID.
    pub id: DatastoreId,
    /// NAME.
    pub name: &'a str,
    /// BASE_PATH, the datastore's folder on the front-end.
    pub base_path: Option<&'a str>,
    /// SAFE_DIRS.
    pub safe_dirs: &'a str,
}

impl Datastore<'_> {
    /// The request of a datastore's action, as it comes on standard input: base64. `image` is the
    /// content of IMAGE.
    pub fn request(&self, image: &str) -> String {
        let mut xml = Xml::default();
        xml.within("DS_DRIVER_ACTION_DATA", |xml| {
            xml.within("IMAGE", |xml| xml.0.push_str(image));
            xml.within("DATASTORE", |xml| {
                xml.text("ID", &self.id.to_string());
                xml.text("NAME", self.name);
                xml.text("TYPE", "0");
                if let Some(path) = self.base_path {
                    xml.text("BASE_PATH", path);
                }
                xml.within("TEMPLATE", |xml| {
                    // What `oned` stores in a datastore that says nothing of it.
                    xml.text("RESTRICTED_DIRS", "/");
                    xml.text("SAFE_DIRS", self.safe_dirs);
                });
            });
        });
        STANDARD.encode(xml.0)
    }
}
