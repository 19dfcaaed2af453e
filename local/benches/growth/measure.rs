//! What is done to a store, and how long it takes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use futures::stream::{self, StreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::seed::{self, IMAGE_BYTES};
use crate::server::{NEVER, Server, pause};
use crate::{Result, prune};

/// What `BACKUP_EVERY` is by default.
const BACKUP_EVERY: u32 = 10;
/// Large uploads at a time, and the length of each: so many pieces of one mebibyte.
const LARGE_UPLOADS: u64 = 64;
const LARGE_PIECES: usize = 50;

/// How long something took, each time, in milliseconds.
#[derive(Default)]
pub struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }

    /// Half of the times were longer.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// One in a hundred times was longer.
    pub fn worst_percent(&self) -> f64 {
        self.quantile(0.99)
    }
}

/// What lies in `backups/`, in bytes and numbers of files.
#[derive(Default)]
pub struct Counts {
    pub images: u64,
    pub image_bytes: u64,
    pub image_blocks: u64,
    pub other_bytes: u64,
    pub other_blocks: u64,
}

impl Counts {
    fn add(&mut self, folder: &Path, of_images: bool) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let (entry, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            let blocks = meta.blocks() * 512;
            if meta.is_dir() {
                self.other_blocks += blocks;
                self.add(&entry, entry.ends_with("backups/images"))?;
            } else if of_images {
                self.images += 1;
                self.image_bytes += meta.len();
                self.image_blocks += blocks;
            } else {
                self.other_bytes += meta.len();
                self.other_blocks += blocks;
            }
        }
        Ok(())
    }
}

/// A store that is served, and what was measured on it.
pub struct Store {
    program: String,
    /// `None` only while it restarts.
    server: Option<Server>,
    folder: TempDir,
    client: Client,
    /// Images it holds, no two of them equal.
    pub images: usize,
    peak_megabytes: f64,
    pub upload: Times,
    pub floor: Times,
    pub tenth: Times,
    pub backup: Times,
    pub page: Times,
    pub category: Times,
    pub storage: Times,
    /// Searches for a word that no image has, and that one image has, and the first search of a process.
    pub search: Times,
    pub rare: Times,
    pub first_search: Times,
    pub plan: Times,
    /// Memory after a start, in MB.
    pub at_start: f64,
    /// Bytes written for each of some uploads that were two seconds apart, beyond the two copies of the image and without
    /// `image-metadata.json`, in kB, without and with a key.
    pub written: f64,
    pub written_keyed: f64,
    pub restart: Times,
    pub prune: Times,
    pub sweep: Times,
    pub first_sweep: Times,
    /// Store operations of the last prune.
    pub prune_operations: u64,
}

impl Store {
    /// A store that holds so many images, served.
    pub async fn seeded(program: &str, images: usize) -> Result<Self> {
        let (folder, client) = (new_folder()?, Client::new());
        seed::fill(&data_of(&folder), images).await?;
        let server = Server::start(program, &data_of(&folder), &client, BACKUP_EVERY).await?;
        let server = Some(server);
        let (upload, floor, tenth, backup, page, restart) = Default::default();
        let (category, storage, search, rare, first_search, plan) = Default::default();
        let (prune, sweep, first_sweep, prune_operations, peak_megabytes) = Default::default();
        Ok(Self {
            program: program.to_owned(),
            server,
            folder,
            client,
            images,
            peak_megabytes,
            upload,
            floor,
            tenth,
            backup,
            page,
            category,
            storage,
            search,
            rare,
            first_search,
            plan,
            at_start: 0.0,
            written: 0.0,
            written_keyed: 0.0,
            restart,
            prune,
            sweep,
            first_sweep,
            prune_operations,
        })
    }

    fn url(&self, path: &str) -> Result<String> {
        Ok(format!("{}{path}", self.server.as_ref().ok_or("the server is not running")?.url))
    }

    /// Waits until no commit is left to compact.
    pub async fn compacted(&self) -> Result<()> {
        let commits = data_of(&self.folder).join("image-metadata.d");
        while fs::read_dir(&commits)?.next().is_some() {
            pause().await;
        }
        Ok(())
    }

    /// What lies in its `backups/`.
    pub fn count(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        counts.add(&data_of(&self.folder).join("backups"), false)?;
        Ok(counts)
    }

    /// Uploads so many new images one after the other, and makes as many plain writes beside each.
    pub async fn upload(&mut self, uploads: usize) -> Result<()> {
        for _ in 0..uploads {
            let (took, with_backup) = self.upload_one(false).await?;
            let times = if with_backup { &mut self.tenth } else { &mut self.upload };
            times.add(took);
            self.floor.add(plain_writes(self.folder.path())?);
        }
        Ok(())
    }

    async fn upload_one(&mut self, keyed: bool) -> Result<(Duration, bool)> {
        let image = seed::image(self.images as u64)?;
        let mut request = self.client.post(self.url("/api/upload")?).header(CONTENT_TYPE, "image/png").body(image);
        if keyed {
            request = request.header("Idempotency-Key", format!("growth-{}", self.images));
        }
        let (took, answer) = timed(request).await?;
        self.images += 1;
        Ok((took, answer.get("backup").is_some()))
    }

    /// Uploads ten images and then makes a backup.
    pub async fn back_up_by_hand(&mut self) -> Result<()> {
        for _ in 0..10 {
            self.upload_one(false).await?;
        }
        let (took, _) = timed(self.client.post(self.url("/api/backup")?)).await?;
        self.backup.add(took);
        Ok(())
    }

    /// Asks for the newest images so many times.
    pub async fn list(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            let (took, _) = timed(self.client.get(self.url("/api/images?limit=50")?)).await?;
            self.page.add(took);
        }
        Ok(())
    }

    /// Asks for lists that are narrowed and for the report of the storage.
    pub async fn look(&mut self, times: usize) -> Result<()> {
        self.at_start = self.server.as_ref().ok_or("the server is not running")?.megabytes_now()?;
        self.first_search.add(self.ask("/api/images?q=zebra").await?.0);
        let rare = format!("/api/images?q=IMG_{:06}", self.images / 2);
        for _ in 0..times {
            self.search.add(self.ask("/api/images?q=zebra").await?.0);
            self.rare.add(self.ask(&rare).await?.0);
            self.category.add(self.ask("/api/images?category=fun&limit=50").await?.0);
            self.storage.add(self.ask("/api/storage").await?.0);
        }
        Ok(())
    }

    /// Asks what a restore of the newest backup would do, ten uploads after it.
    pub async fn plan(&mut self) -> Result<()> {
        for _ in 0..10 {
            self.upload_one(false).await?;
        }
        self.compacted().await?;
        let (_, backups) = self.ask("/api/backups").await?;
        let name = backups["backups"][0]["name"].as_str().ok_or("there is no backup")?.to_owned();
        for _ in 0..5 {
            let request = self.client.post(self.url(&format!("/api/restore/{name}?dryRun=true"))?);
            self.plan.add(timed(request).await?.0);
        }
        Ok(())
    }

    async fn ask(&self, path: &str) -> Result<(Duration, Value)> {
        timed(self.client.get(self.url(path)?)).await
    }

    /// When each `image-metadata.json` was written last, and its length in bytes.
    pub fn metadata_files(&self) -> Result<[(SystemTime, u64); 2]> {
        let data = data_of(&self.folder);
        let look = |path: &str| fs::metadata(data.join(path)).and_then(|meta| Ok((meta.modified()?, meta.len())));
        Ok([look("image-metadata.json")?, look("backups/image-metadata.json")?])
    }

    /// What the server has had written so far, in bytes.
    pub fn bytes_written(&self) -> Result<u64> {
        self.server.as_ref().ok_or("the server is not running")?.written()
    }

    /// Uploads one image.
    pub async fn upload_alone(&mut self, keyed: bool) -> Result<()> {
        self.upload_one(keyed).await.map(drop)
    }

    /// Stops the server and starts it again.
    pub async fn restart(&mut self) -> Result<()> {
        let took = self.restart_with(BACKUP_EVERY).await?;
        self.restart.add(took);
        Ok(())
    }

    /// From now on no upload makes a backup.
    pub async fn stop_automatic_backups(&mut self) -> Result<()> {
        self.restart_with(NEVER).await.map(drop)
    }

    #[expect(clippy::disallowed_methods, reason = "measures time")]
    async fn restart_with(&mut self, backup_every: u32) -> Result<Duration> {
        self.peak_megabytes()?;
        self.server.take().map(Server::stop).transpose()?;
        let begin = Instant::now();
        self.server = Some(Server::start(&self.program, &data_of(&self.folder), &self.client, backup_every).await?);
        Ok(begin.elapsed())
    }

    /// Makes what a prune is to remove, and removes it.
    pub async fn prune(&mut self) -> Result<()> {
        let took = prune::run(&data_of(&self.folder)).await?;
        self.first_sweep.add(took.first_sweep);
        self.sweep.add(took.sweep);
        self.prune.add(took.prune);
        self.prune_operations = took.operations;
        Ok(())
    }

    /// The most memory that its server ever had.
    pub fn peak_megabytes(&mut self) -> Result<f64> {
        if let Some(server) = &self.server {
            self.peak_megabytes = self.peak_megabytes.max(server.peak_megabytes()?);
        }
        Ok(self.peak_megabytes)
    }
}

/// Sends many large images at a time to a new store; returns the most memory that the server had.
pub async fn many_large_uploads(program: &str) -> Result<f64> {
    let (folder, client) = (new_folder()?, Client::new());
    let server = Server::start(program, &data_of(&folder), &client, BACKUP_EVERY).await?;
    let url = format!("{}/api/upload", server.url);
    let piece: &'static [u8] = Box::leak(vec![0xa5; 1 << 20].into_boxed_slice());
    let upload = async |number| {
        let start = stream::iter([Ok::<_, std::io::Error>(seed::start_of_image(number)?)]);
        let rest = stream::iter(std::iter::repeat_n(piece, LARGE_PIECES)).map(|piece| Ok(piece.to_vec()));
        let request = client.post(&url).header(CONTENT_TYPE, "image/png").body(Body::wrap_stream(start.chain(rest)));
        timed(request).await
    };
    let mut uploads = stream::iter(0..LARGE_UPLOADS).map(upload).buffer_unordered(LARGE_UPLOADS as usize);
    while let Some(done) = uploads.next().await {
        done?;
    }
    server.peak_megabytes()
}

/// The least that an upload can cost: two copies of the image and two of a small record, each written, synced, renamed,
/// and its folder synced.
#[expect(clippy::disallowed_methods, reason = "measures time")]
fn plain_writes(folder: &Path) -> Result<Duration> {
    let image = vec![0x5a; IMAGE_BYTES];
    let begin = Instant::now();
    for (name, bytes) in
        [("image", &image[..]), ("copy", &image), ("record", &image[..1_000]), ("second", &image[..1_000])]
    {
        let (temporary, path) = (folder.join("temporary"), folder.join(name));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(folder)?.sync_all()?;
    }
    Ok(begin.elapsed())
}

/// Sends a request and reads the whole answer, which must be a success in JSON.
#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn timed(request: RequestBuilder) -> Result<(Duration, Value)> {
    let begin = Instant::now();
    let answer = request.send().await.and_then(Response::error_for_status)?.bytes().await?;
    let took = begin.elapsed();
    Ok((took, serde_json::from_slice(&answer)?))
}

/// A folder on the disk that the target directory is on; gone when dropped.
fn new_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("growth-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    fs::create_dir(data_of(&folder))?;
    Ok(folder)
}

fn data_of(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("data")
}
