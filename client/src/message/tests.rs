use super::*;

#[test]
fn a_text_message_goes_there_and_back() {
    let mut message = Message::text("你好");
    message.set_property("n", 5).unwrap();
    let wire = message.into_wire(Marshalling::default()).unwrap();
    let back = Message::from_wire(Arc::new(wire));
    assert_eq!(back.as_text().unwrap(), Some("你好"));
    assert_eq!(back.property_i64("n").unwrap(), 5);
}
