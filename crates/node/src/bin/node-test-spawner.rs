//! The spawner role alone, for this crate's tests. The product runs it as `suimon __spawner`.

fn main() -> std::process::ExitCode {
    node::spawner::main()
}
