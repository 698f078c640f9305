//! `escape boot IMAGE.toml`: one guest by itself.

use std::borrow::Cow;
use std::path::Path;

use escape_node::ServiceConfig;
use escape_node::solo::{SoloConfig, SoloNode, SoloTimes};

use super::CommandError;
use super::parts::{log_to_stderr, part};
use crate::config::{FREESTANDING, ImageFile};
use crate::exit::Exit;

/// Boots the image and serves until SIGINT, SIGTERM or the guest's own end.
pub fn run(image: &Path, times: bool) -> Result<Exit, CommandError> {
    log_to_stderr();
    let config = solo_config(ImageFile::read(image)?)?;
    let mut node = SoloNode::start(config, SoloTimes::begin()).map_err(|e| part("boot", &e))?;
    let ended = node.run();
    if times {
        println!("{}", serde_json::to_string(node.times())?);
    }
    ended.map_err(|e| part("boot", &e))?;
    Ok(Exit::Done)
}

fn solo_config(file: ImageFile) -> Result<SoloConfig, CommandError> {
    let image: Cow<'static, [u8]> = if file.image == FREESTANDING {
        escape_images::freestanding().into()
    } else {
        let path = Path::new(&file.image);
        std::fs::read(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })?.into()
    };
    Ok(SoloConfig {
        image_id: escape_images::image_id(&image),
        image,
        ram_mib: file.ram_mib,
        n_slots: file.slots,
        tap: (!file.tap.is_empty()).then_some(file.tap),
        service: ServiceConfig {
            ip: file.ip,
            mac: file.mac.0,
            http_port: file.http_port,
            stream_port: file.stream_port,
            idle_timeout_s: file.idle_timeout_s,
        },
        cmdline: file.cmdline,
    })
}
