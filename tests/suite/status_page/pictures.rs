//! Makes the pictures of docs/STATUS.md anew: `docs/images/make`.

use std::path::PathBuf;

use super::Scene;
use crate::support::devtools::Tab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes pictures into the folder that STATUS_PICTURES names"]
async fn pictures_of_the_status_page() {
    let folder = PathBuf::from(std::env::var_os("STATUS_PICTURES").expect("STATUS_PICTURES names a folder"));
    let mut tab = Tab::open().await.expect("chromium");
    let scene = Scene::start().await;
    scene.an_hour_passes().await;
    scene.until_the_secret_is_known().await;
    for (name, width, scale, dark, height) in [
        ("status-desktop", 1200, 1, false, None),
        ("status-desktop-dark", 1200, 1, true, Some(1000)),
        ("status-phone", 360, 2, false, Some(1500)),
        ("status-phone-dark", 360, 2, true, Some(1500)),
    ] {
        tab.resize(width, 800, scale).await;
        tab.dark(dark).await;
        tab.typed(&scene.admin()).await;
        std::fs::write(folder.join(format!("{name}.png")), tab.picture(height).await).unwrap();
    }
}
