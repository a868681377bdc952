//! placeholder
fn main() {
    redoubt_containers::run_helper_if_asked();
}
