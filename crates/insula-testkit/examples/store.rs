//! Puts templates of images into a file, for tests on a machine that can't build them:
//! `INSULA_TEST_STORE`.
//!
//! `store DIRECTORY IMAGE…` prints the path of the file. It is created once for each set of
//! definitions.

use std::path::Path;

use insula_testkit::{Image, make_store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, aliases @ ..] = &arguments[..] else { panic!("usage: store DIRECTORY IMAGE…") };
    let all = [Image::Debian12, Image::Debian12Docker, Image::Debian13];
    let find =
        |alias: &String| all.into_iter().find(|image| image.alias() == alias).expect("the alias of an image");
    let images: Vec<Image> = aliases.iter().map(find).collect();
    let names: Vec<String> = images.iter().map(|image| image.template()).collect();
    let file = Path::new(directory).join(format!("{}.btrfs", names.join("+")));
    if !file.exists() {
        make_store(&file, &images);
    }
    println!("{}", file.display());
}
