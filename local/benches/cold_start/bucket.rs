//! Buckets in this process, asked over TLS, each with a store in it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::backup::Kind;
use shared::clock::Clock;
use shared::config::Config;
use shared::images::Fields;
use shared::store::Body;
use shared::testing::png;
use shared::upload::NewImage;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::Result;
use crate::s3_server;

/// Where distributions keep the certificates that they trust: Debian and its like, Amazon Linux and its like.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The bucket with the store that the others are copies of.
const ORIGINAL: &str = "store";

/// A bucket with a store in it, of which each function gets a copy in a bucket of its own.
pub struct Bucket {
    folder: TempDir,
    endpoint: String,
    /// The certificates to trust.
    roots: PathBuf,
    copies: AtomicUsize,
    /// What the store holds.
    pub store: Store,
}

/// What a store holds besides images.
pub struct Store {
    /// The name of a backup.
    pub backup: String,
    /// The key of a commit that is not compacted yet; neither it nor its image has a replica.
    pub commit: String,
}

impl Bucket {
    /// A bucket and a store of so many images, compacted and backed up.
    pub async fn start(images: u32, clock: Clock) -> Result<Self> {
        let (folder, plain) = s3_server::start().await;
        let plain = plain.trim_start_matches("http://").parse()?;
        let (address, certificate) = serve_over_tls(plain).await?;
        let roots = folder.path().join("roots.pem");
        let trusted = TRUSTED.iter().find_map(|path| fs::read_to_string(path).ok());
        let trusted = trusted.ok_or_else(|| format!("this machine trusts nobody: none of {TRUSTED:?} can be read"))?;
        fs::write(&roots, trusted + "\n" + &certificate)?;
        let store = fill(&folder.path().join(ORIGINAL), images, clock).await?;
        Ok(Self { folder, endpoint: format!("https://{address}"), roots, copies: AtomicUsize::new(0), store })
    }

    fn folder(&self, store: &str) -> PathBuf {
        self.folder.path().join(store)
    }

    /// Copies the store; returns the copy's name.
    pub fn copy(&self) -> Result<String> {
        let name = format!("copy-{}", self.copies.fetch_add(1, Ordering::Relaxed));
        copy_folder(&self.folder(ORIGINAL), &self.folder(&name))?;
        Ok(name)
    }

    /// Removes a copy.
    pub fn remove(&self, store: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.folder(store))?)
    }

    /// What Lambda and the template set for a function on this store.
    pub fn settings(&self, store: &str) -> Vec<(&'static str, String)> {
        vec![
            ("STORE_URL", format!("s3://{store}")),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("SSL_CERT_FILE", self.roots.display().to_string()),
        ]
    }
}

/// Fills a folder, which is a bucket: so many images, compacted and backed up, and one more.
async fn fill(folder: &Path, images: u32, clock: Clock) -> Result<Store> {
    fs::create_dir(folder)?;
    let open = async |archive: &str| {
        let config = Config::from_lookup(&|name| match name {
            "DATA_DIR" => Some(folder.display().to_string()),
            "ARCHIVE" => Some(archive.to_owned()),
            _ => None,
        })?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(shared::open(&config, clock.clone()).await?)
    };
    let image =
        |number| NewImage { body: Body::from(png(number)), original_name: Some(format!("IMG_{number:04}.png")) };

    let keepsake = open("sync").await?;
    keepsake.uploads.upload((0..images).map(image).collect(), Fields::default(), None).await?;
    keepsake.core.catalog.compact().await?;
    let backup = keepsake.backups.create(Kind::Manual).await?.name.to_string();

    open("async").await?.uploads.upload(vec![image(images)], Fields::default(), None).await?;
    let commit = fs::read_dir(folder.join("image-metadata.d"))?.next().ok_or("the last upload made no commit")??;
    Ok(Store { backup, commit: format!("image-metadata.d/{}", commit.file_name().to_string_lossy()) })
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Passes on what comes over TLS; returns where, and the certificate to trust.
async fn serve_over_tls(plain: SocketAddr) -> Result<(SocketAddr, String)> {
    let own = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut secure = acceptor.accept(stream).await?;
                let mut server = TcpStream::connect(plain).await?;
                server.set_nodelay(true)?;
                // A function is killed with its connections open.
                copy_bidirectional(&mut secure, &mut server).await
            });
        }
    });
    Ok((address, own.cert.pem()))
}
