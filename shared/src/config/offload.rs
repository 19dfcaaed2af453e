//! [`Offload`]: how a proxy is made to send the files of images.

use std::os::unix::ffi::OsStrExt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::error::ConfigError;
use super::platform::Platform;
use super::store_url::StoreUrl;
use super::values::{Values, wrong};
use crate::layout::{self, ImageId};

const FORMS: &str = "set it to x-sendfile, or to x-accel-redirect: and the location of uploads/ in the proxy, as in \
                     x-accel-redirect:/internal-uploads/";
/// What is not written as it is in a path: the proxies that read these headers decode them.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `OFFLOAD`: the header of a response without a body that makes a proxy send the file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The name of the header, in lower case.
    pub header: &'static str,
    /// Its value up to the name of the file, escaped.
    prefix: String,
}

impl Offload {
    /// The value of the header for an image.
    pub fn value(&self, id: &ImageId) -> String {
        format!("{}{}", self.prefix, percent_encode(id.as_str().as_bytes(), ESCAPED))
    }

    /// Parses a value for the images in this store; an error is the remedy.
    fn parse(value: &str, store: &StoreUrl) -> Result<Self, &'static str> {
        let StoreUrl::File(folder) = store else {
            return Err("leave it out: a proxy can send the files of a folder only, and this store is not one");
        };
        if value.eq_ignore_ascii_case("x-sendfile") {
            let folder = percent_encode(folder.as_os_str().as_bytes(), ESCAPED);
            return Ok(Self { header: "x-sendfile", prefix: format!("{folder}/{}", layout::UPLOADS) });
        }
        let (kind, location) = value.split_once(':').ok_or(FORMS)?;
        if !kind.eq_ignore_ascii_case("x-accel-redirect") {
            return Err(FORMS);
        }
        let plain = |name: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            !matches!(name, "" | "." | "..") && name.bytes().all(is_plain)
        };
        let names = location.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).unwrap_or_default();
        if !names.split('/').all(plain) {
            return Err(
                "give the location as a path of letters, digits and hyphens that begins and ends with a slash, \
                        as in x-accel-redirect:/internal-uploads/",
            );
        }
        // The proxy would send the request to this server again.
        if ["uploads", "api", "assets"].contains(&names.split('/').next().unwrap_or_default()) {
            return Err("name a location that is no path of this server, as in x-accel-redirect:/internal-uploads/");
        }
        Ok(Self { header: "x-accel-redirect", prefix: location.to_owned() })
    }
}

impl Values<'_> {
    pub(super) fn offload(&self, store: &StoreUrl, platform: Option<Platform>) -> Result<Option<Offload>, ConfigError> {
        let Some(value) = self.get("OFFLOAD")? else { return Ok(None) };
        if platform == Some(Platform::Lambda) {
            let remedy = "leave it out: no proxy in front of AWS Lambda can read the files of a function";
            return Err(wrong("OFFLOAD", &value, remedy));
        }
        Offload::parse(&value, store).map(Some).map_err(|remedy| wrong("OFFLOAD", &value, remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refused};

    fn value(setting: &str, folder: &str, id: &str) -> (&'static str, String) {
        let offload = read(&[("OFFLOAD", setting), ("DATA_DIR", folder)]).unwrap().offload.unwrap();
        (offload.header, offload.value(&ImageId::new(id).unwrap()))
    }

    #[test]
    fn offload_names_the_file_below_the_location_or_by_its_path() {
        assert_eq!(read(&[]).unwrap().offload, None);
        let nginx = "x-accel-redirect:/internal-uploads/";
        assert_eq!(value(nginx, "/srv", "a.png"), ("x-accel-redirect", "/internal-uploads/a.png".to_owned()));
        assert_eq!(value("X-Sendfile", "/srv/my images", "a.png").1, "/srv/my%20images/uploads/a.png");
        for (name, written) in
            [("ä b?.png", "%C3%A4%20b%3F.png"), ("100%.png", "100%25.png"), ("a&b;c#", "a%26b%3Bc%23")]
        {
            assert_eq!(value(nginx, "/srv", name).1, format!("/internal-uploads/{written}"));
        }
    }

    #[test]
    fn offload_is_refused_if_no_proxy_could_send_the_file() {
        refused(
            "OFFLOAD",
            &[
                "on",
                "true",
                "x-accel-redirect",
                "x-accel-redirect:",
                "x-accel-redirect:/",
                "x-accel-redirect:internal/",
                "x-accel-redirect:/internal",
                "x-accel-redirect://internal/",
                "x-accel-redirect:/a/../b/",
                "x-accel-redirect:/a b/",
                "x-accel-redirect:/uploads/",
                "x-accel-redirect:/api/files/",
                "x-sendfile:/srv/",
            ],
        );
        let nginx = ("OFFLOAD", "x-accel-redirect:/internal-uploads/");
        for elsewhere in [("STORE_URL", "s3://bucket"), ("AWS_LAMBDA_FUNCTION_NAME", "images")] {
            let error = read(&[nginx, ("DATA_DIR", "/tmp"), elsewhere]).unwrap_err();
            assert_eq!(error.name, "OFFLOAD");
            assert!(error.remedy.starts_with("leave it out: "), "{error}");
        }
        let archive = ("BACKUP_URL", "s3://bucket");
        assert!(read(&[nginx, archive]).unwrap().offload.is_some());
    }
}
