//! An installed program carries the scenarios as they are. A program in development reads them from the repository, and
//! must not be compiled again for each edit of one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rerun-if-changed=../scenarios");
    }
}
