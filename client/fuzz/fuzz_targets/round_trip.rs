#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openwire_client_fuzz::round_trip(data));
