run:
	cargo run --release
