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
    for (name, width, scale, dark, from, to) in [
        ("status-desktop", 1200, 1, false, "", "refusals"),
        ("status-tables", 1200, 1, false, "refusals", "settings"),
        ("status-desktop-dark", 1200, 1, true, "", "accounts"),
        ("status-phone", 360, 2, false, "", "accounts"),
        ("status-phone-dark", 360, 2, true, "accounts", ""),
    ] {
        tab.resize(width, 800, scale).await;
        tab.dark(dark).await;
        tab.typed(&scene.admin()).await;
        // The heading stays in view in a window, and would be in the middle of a picture.
        tab.eval("document.querySelector('header').style.position = 'static'")
            .await;
        let top = async |tab: &mut Tab, part: &str, otherwise: u64| match part {
            "" => otherwise,
            part => {
                let top =
                    format!("Math.round(document.getElementById('{part}').getBoundingClientRect().top + scrollY)");
                tab.eval(&top).await.as_u64().unwrap()
            }
        };
        let from = top(&mut tab, from, 0).await;
        let to = top(&mut tab, to, from + 760).await;
        let file = folder.join(format!("{name}.png"));
        std::fs::write(file, tab.picture(from, to).await).unwrap();
    }
}
