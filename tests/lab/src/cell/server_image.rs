//! A guest image with known servers: lighttpd, ported, on the HTTP port, and nginx, unmodified, on the stream port.

use anyhow::{Context, Result, ensure};
use escape_session::pattern;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of `/large`.
pub const LARGE: usize = 4 << 20;
/// What `/text` is.
pub const TEXT: &str = "a file that is served by whoever is alive\n";

/// Programs that were built here.
#[derive(Clone, Copy, Debug)]
pub struct Servers<'a> {
    /// lighttpd with slices, static.
    pub lighttpd: &'a Path,
    /// The library that is preloaded into nginx.
    pub preload: &'a Path,
}

/// nginx and what it is linked with, by Debian's names.
const PACKAGES: [&str; 7] = ["nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g", "libgcc-s1"];

const LIGHTTPD: &str = r#"
server.document-root = "/srv"
server.port = 80
server.max-request-size = 48
server.max-keep-alive-requests = 1000
server.max-keep-alive-idle = 600
server.max-write-idle = 600
etag.use-inode = "disable"
mimetype.assign = ( "" => "application/octet-stream" )
"#;

const NGINX: &str = "daemon off; master_process off; user root; pid /run/nginx.pid; error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off; sendfile on; keepalive_timeout 600; keepalive_requests 1000;
    client_body_temp_path /tmp/t1; proxy_temp_path /tmp/t2; fastcgi_temp_path /tmp/t3; uwsgi_temp_path /tmp/t4; scgi_temp_path /tmp/t5;
    server { listen 9000; root /srv; }
}
";

/// A service that ends the agent again and again. Its keeper is of the same name, and not the agent.
const END_OF_AGENTS: &str = "while sleep 4; do for p in $(pidof escape-agent); do xargs -0 < /proc/$p/cmdline | grep -q serve && kill -9 $p; done; done";

impl Servers<'_> {
    /// Makes the image below `directory`, with `escape image build`; where it is.
    pub fn image(&self, escape: &Path, directory: &Path) -> Result<PathBuf> {
        let at = directory.join("servers");
        std::fs::create_dir_all(&at).context("a directory for the image")?;
        let mut large = vec![0; LARGE];
        pattern::fill(&mut large, 0);
        let mut files = String::new();
        for (name, to, content) in [
            ("large", "srv/large", large.as_slice()),
            ("text", "srv/text", TEXT.as_bytes()),
            ("lighttpd.conf", "etc/lighttpd.conf", LIGHTTPD.as_bytes()),
            ("nginx.conf", "etc/nginx.conf", NGINX.as_bytes()),
            ("passwd", "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"),
            ("group", "etc/group", b"root:x:0:\n"),
        ] {
            std::fs::write(at.join(name), content).with_context(|| name.to_owned())?;
            files += &format!("{{ from = {name:?}, to = {to:?} }}, ");
        }
        for (from, to) in [(self.lighttpd, "bin/lighttpd"), (self.preload, "lib/libescape_preload.so")] {
            let from = std::fs::canonicalize(from).with_context(|| from.display().to_string())?;
            files += &format!("{{ from = {from:?}, to = {to:?} }}, ");
        }
        let init = std::fs::canonicalize("images/linux/init").context("images/linux/init")?;
        let file = at.join("image.toml");
        let text = format!(
            "kernel = \"guest/vmlinuz\"\ninitrd = \"guest/initrd.cpio\"\n\n[build]\ninit = {init:?}\npackages = {PACKAGES:?}\nfiles = [{files}]\n\
             services = [\"exec lighttpd -D -f /etc/lighttpd.conf\", \
             \"LD_PRELOAD=/lib/libescape_preload.so ESCAPE_PORTS=$ESCAPE_STREAM exec /usr/sbin/nginx -c /etc/nginx.conf\", \
             {END_OF_AGENTS:?}]\n"
        );
        std::fs::write(&file, text).context("the image file")?;
        let built = Command::new(escape).args(["image", "build"]).arg(&file).output().context("escape image build")?;
        ensure!(built.status.success(), "escape image build: {}", String::from_utf8_lossy(&built.stderr));
        Ok(at.join("guest"))
    }
}
