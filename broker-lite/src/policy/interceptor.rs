//! Destinations that pass on what is sent to them: virtual topics, composites, mirrors.

use std::fmt;

use openwire_client::wire::{Destination, DestinationKind};
use regex_lite::Regex;

use super::fields::{FieldError, FieldValue, Fields, flag, list, text};
use super::pattern::{Pattern, PatternMap};
use super::strategy::{Filter, filter};

/// `virtualTopic`: a topic of which each queue of a certain name gets a copy of every message, so that
/// several consumers can share what one durable subscription would get.
///
/// All copies of a message, on whatever queues, are stored together or not at all. So ActiveMQ's `transactedSend` says
/// what is the case anyway, and can be left out or given; `concurrentSend` gives the copies to several threads,
/// which there are none of to give them to, and is refused.
#[derive(Debug, Clone)]
pub struct VirtualTopic {
    name: String,
    prefix: String,
    postfix: String,
    topics: Pattern,
    queues: Regex,
    /// `selectorAware`: a queue gets only what a consumer of it selects. Default false.
    pub selector_aware: bool,
    /// `local`: what comes from other brokers is not passed on. Default false.
    pub local: bool,
    /// `dropOnResourceLimit`: a queue without room misses the message; otherwise the send fails or waits. Default false.
    pub drop_on_resource_limit: bool,
    /// `setOriginalDestination`: the copies say which queue they are on, and have the topic as their original
    /// destination; otherwise they say that they are on the topic. Default true.
    pub set_original_destination: bool,
}

impl PartialEq for VirtualTopic {
    fn eq(&self, other: &Self) -> bool {
        // What is left out follows from the names.
        (&self.name, &self.prefix, &self.postfix) == (&other.name, &other.prefix, &other.postfix)
            && self.selector_aware == other.selector_aware
            && self.local == other.local
            && self.drop_on_resource_limit == other.drop_on_resource_limit
            && self.set_original_destination == other.set_original_destination
    }
}

impl VirtualTopic {
    /// The default name of virtual topics.
    pub const NAME: &'static str = "VirtualTopic.>";

    /// The default of what stands in front of the topic's name in the names of its queues.
    pub const PREFIX: &'static str = "Consumer.*.";

    /// Topics whose names match `name`, with the queues `prefix` + name of the topic + `postfix`. In the prefix and
    /// the postfix a `*` stands for any text without a dot.
    ///
    /// # Errors
    ///
    /// For names that do not part the queues from other ones: both prefix and postfix empty; a name that is empty
    /// or lists several.
    pub fn new(name: &str, prefix: &str, postfix: &str) -> Result<Self, InterceptorError> {
        let (name, prefix, postfix) = (name.trim(), prefix.trim(), postfix.trim());
        if name.is_empty() || name.contains(',') {
            return Err(InterceptorError(format!(
                "a virtual topic has one name, not {name:?}"
            )));
        }
        if prefix.contains(',') || postfix.contains(',') {
            return Err(InterceptorError(
                "the queues of a virtual topic have one name each".to_owned(),
            ));
        }
        if prefix.is_empty() && postfix.is_empty() {
            return Err(InterceptorError(
                "the queues of a virtual topic have a prefix or a postfix".to_owned(),
            ));
        }
        let queues = format!("(?s)^{}(.+){}$", expression(prefix), expression(postfix));
        let queues = Regex::new(&queues).map_err(|error| InterceptorError(error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            postfix: postfix.to_owned(),
            topics: Pattern::topic(name),
            queues,
            selector_aware: false,
            local: false,
            drop_on_resource_limit: false,
            set_original_destination: true,
        })
    }

    /// `name`: the topics.
    pub fn topics(&self) -> &Pattern {
        &self.topics
    }

    /// `prefix`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `postfix`.
    pub fn postfix(&self) -> &str {
        &self.postfix
    }

    /// The queues that get a copy of what is sent to a topic; `None` if it is not one of its topics, or an advisory
    /// topic. A topic that is itself named like a pattern has no queues: nothing is ever sent to all that match.
    pub fn queues_of(&self, topic: &Destination) -> Option<Pattern> {
        if topic.is_pattern() || topic.is_advisory() || !self.topics.matches(topic) {
            return None;
        }
        Some(Pattern::queue(&format!(
            "{}{}{}",
            self.prefix,
            topic.name(),
            self.postfix
        )))
    }

    /// The topic that feeds a queue, if the queue is one of its.
    pub fn topic_of(&self, queue: &Destination) -> Option<Destination> {
        if queue.kind() != DestinationKind::Queue {
            return None;
        }
        let name = self.queues.captures(queue.name())?.get(1)?.as_str();
        let topic = Destination::topic(name);
        // A pattern over several queues is fed by none of their topics itself.
        let feeds = self.queues_of(&topic)?.matches(queue);
        feeds.then_some(topic)
    }

    /// Reads a `virtualTopic`.
    ///
    /// # Errors
    ///
    /// A [`FieldError`] for what cannot be.
    pub fn read(mut fields: Fields) -> Result<Self, FieldError> {
        let name = fields.take("name", text)?;
        let prefix = fields.take("prefix", text)?;
        let postfix = fields.take("postfix", text)?;
        let mut topic = Self::new(
            name.as_deref().unwrap_or(Self::NAME),
            prefix.as_deref().unwrap_or(Self::PREFIX),
            postfix.as_deref().unwrap_or_default(),
        )
        .map_err(|error| fields.error(error.to_string()))?;
        fields.take_into("selectorAware", &mut topic.selector_aware, flag)?;
        fields.take_into("local", &mut topic.local, flag)?;
        fields.take_into("dropOnResourceLimit", &mut topic.drop_on_resource_limit, flag)?;
        fields.take_into(
            "setOriginalDestination",
            &mut topic.set_original_destination,
            flag,
        )?;
        fields.take("transactedSend", flag)?;
        fields.take("concurrentSend", not_concurrent)?;
        fields.finish()?;
        Ok(topic)
    }
}

fn not_concurrent(value: FieldValue) -> Result<(), FieldError> {
    match flag(value)? {
        false => Ok(()),
        true => Err(FieldError::new(
            "the copies of a message are made in one step, there are no threads to share them",
        )),
    }
}

/// A prefix or postfix as a regular expression.
fn expression(part: &str) -> String {
    part.split('*')
        .map(regex_lite::escape)
        .collect::<Vec<_>>()
        .join("[^.]*")
}

/// `compositeQueue`, `compositeTopic`: a destination that passes on what is sent to it.
///
/// What is passed on is a copy with the composite as its original destination, as it always is in ActiveMQ 6; so
/// `copyMessage` can only be true.
#[derive(Debug, Clone, PartialEq)]
pub struct Composite {
    /// `name`: the queues or topics; mostly one.
    pub destinations: Pattern,
    /// `forwardTo`: where it goes.
    pub forward_to: Vec<Forward>,
    /// `forwardOnly`: the composite itself keeps nothing. Default true.
    pub forward_only: bool,
    /// `sendWhenNotMatched`: the composite itself keeps what went nowhere else, and nothing but that, whatever
    /// `forward_only` says. Default false.
    pub send_when_not_matched: bool,
}

/// Where a composite passes messages on to.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// The destination.
    pub destination: Destination,
    /// `filteredDestination`: only what it selects.
    pub selector: Option<Filter>,
}

impl Composite {
    /// Passes everything on, and keeps nothing.
    pub fn new(destinations: Pattern, forward_to: impl IntoIterator<Item = Destination>) -> Self {
        Self {
            destinations,
            forward_to: forward_to
                .into_iter()
                .map(|destination| Forward {
                    destination,
                    selector: None,
                })
                .collect(),
            forward_only: true,
            send_when_not_matched: false,
        }
    }

    /// Whether the composite itself keeps a message that it passed on to so many destinations.
    pub fn keeps(&self, passed_on: usize) -> bool {
        if self.send_when_not_matched {
            passed_on == 0
        } else {
            !self.forward_only
        }
    }

    /// Reads a `[[composite]]`: `queue` or `topic` is its name, `forwardTo` a list of tables with `queue` or `topic` and
    /// perhaps a `selector`; a text in the list is the qualified name of a destination, by default a queue.
    ///
    /// # Errors
    ///
    /// A [`FieldError`] for what cannot be.
    pub fn read(mut fields: Fields) -> Result<Self, FieldError> {
        let Some(destinations) = super::target(&mut fields)? else {
            return Err(fields.error("a composite has a name: queue or topic"));
        };
        let mut composite = Self::new(destinations, []);
        let Some(forward_to) = fields.take("forwardTo", list(forward))? else {
            return Err(fields.error("a composite has a forwardTo"));
        };
        composite.forward_to = forward_to;
        fields.take_into("forwardOnly", &mut composite.forward_only, flag)?;
        fields.take_into("sendWhenNotMatched", &mut composite.send_when_not_matched, flag)?;
        fields.take("copyMessage", |value| match flag(value)? {
            true => Ok(()),
            false => Err(FieldError::new("what is passed on is always a copy")),
        })?;
        fields.take("concurrentSend", not_concurrent)?;
        let kind = composite.destinations.kind();
        if matches!(kind, DestinationKind::TempQueue | DestinationKind::TempTopic) {
            return Err(fields.error("temporary destinations are no composites"));
        }
        let itself = |forward: &&Forward| composite.destinations.matches(&forward.destination);
        if let Some(forward) = composite.forward_to.iter().find(itself) {
            return Err(fields.error(format!(
                "it passes messages on to itself: {}",
                forward.destination
            )));
        }
        fields.finish()?;
        Ok(composite)
    }
}

fn forward(value: FieldValue) -> Result<Forward, FieldError> {
    let forward = match value {
        FieldValue::Table(mut fields) => {
            let Some(to) = super::target(&mut fields)? else {
                return Err(fields.error("it goes to a queue or a topic"));
            };
            let selector = fields.take("selector", filter)?;
            fields.finish()?;
            Forward {
                destination: Destination::new(to.kind(), &to.name()),
                selector,
            }
        }
        value => Forward {
            destination: Destination::parse(&text(value)?, DestinationKind::Queue),
            selector: None,
        },
    };
    let to = &forward.destination;
    if to.name().is_empty() || to.is_pattern() || to.is_composite() || to.is_temporary() {
        return Err(FieldError::new(format!(
            "{to}: it goes to one queue or one topic"
        )));
    }
    Ok(forward)
}

/// `mirroredQueue`: a topic for each queue, which gets a copy of what is sent to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// In front of the queue's name. Default `VirtualTopic.Mirror.`.
    pub prefix: String,
    /// Behind it. Default empty.
    pub postfix: String,
    /// `useTempMirroredQueues`: temporary queues as well. Default true.
    pub temporary: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            prefix: "VirtualTopic.Mirror.".to_owned(),
            postfix: String::new(),
            temporary: true,
        }
    }
}

impl Mirror {
    /// The topic that gets a copy of what is sent to a destination. Topics have none.
    pub fn topic_of(&self, queue: &Destination) -> Option<Destination> {
        if queue.is_topic() || queue.is_composite() || (queue.is_temporary() && !self.temporary) {
            return None;
        }
        Some(Destination::topic(&format!(
            "{}{}{}",
            self.prefix,
            queue.name(),
            self.postfix
        )))
    }

    /// Reads a `mirroredQueue`.
    ///
    /// # Errors
    ///
    /// A [`FieldError`] for what cannot be.
    pub fn read(mut fields: Fields) -> Result<Self, FieldError> {
        let mut mirror = Self::default();
        fields.take_into("prefix", &mut mirror.prefix, text)?;
        fields.take_into("postfix", &mut mirror.postfix, text)?;
        fields.take_into("useTempMirroredQueues", &mut mirror.temporary, flag)?;
        fields.take("copyMessage", |value| match flag(value)? {
            true => Ok(()),
            false => Err(FieldError::new("what the topic gets is always a copy")),
        })?;
        fields.finish()?;
        Ok(mirror)
    }
}

/// Everything that passes messages on: ActiveMQ's `destinationInterceptors`.
#[derive(Debug, Clone)]
pub struct Interceptors {
    virtual_topics: PatternMap<VirtualTopic>,
    composites: PatternMap<Composite>,
    /// `useMirroredQueues`, with how. Default `None`.
    pub mirror: Option<Mirror>,
}

impl Default for Interceptors {
    /// ActiveMQ's default: virtual topics `VirtualTopic.>` with the queues `Consumer.*.VirtualTopic.>`.
    fn default() -> Self {
        let mut all = Self::none();
        if let Ok(topic) = VirtualTopic::new(VirtualTopic::NAME, VirtualTopic::PREFIX, "") {
            all.add_virtual_topic(topic);
        }
        all
    }
}

impl Interceptors {
    /// None at all: `useVirtualTopics="false"`.
    pub fn none() -> Self {
        Self {
            virtual_topics: PatternMap::new(),
            composites: PatternMap::new(),
            mirror: None,
        }
    }

    /// Adds a virtual topic.
    pub fn add_virtual_topic(&mut self, topic: VirtualTopic) {
        self.virtual_topics.insert(topic.topics.clone(), topic);
    }

    /// Adds a composite.
    pub fn add_composite(&mut self, composite: Composite) {
        self.composites.insert(composite.destinations.clone(), composite);
    }

    /// The virtual topics that a topic is, each with the queues it feeds.
    pub fn feeds<'a>(&'a self, topic: &'a Destination) -> impl Iterator<Item = (&'a VirtualTopic, Pattern)> {
        self.virtual_topics
            .all(topic)
            .filter_map(|virtual_topic| Some((virtual_topic, virtual_topic.queues_of(topic)?)))
    }

    /// The topics that feed a queue, each with the virtual topic it is.
    pub fn fed_by<'a>(
        &'a self,
        queue: &'a Destination,
    ) -> impl Iterator<Item = (&'a VirtualTopic, Destination)> {
        self.virtual_topics
            .iter()
            .filter_map(|(_, virtual_topic)| Some((virtual_topic, virtual_topic.topic_of(queue)?)))
    }

    /// The composites that a destination is.
    pub fn composites(&self, destination: &Destination) -> impl Iterator<Item = &Composite> {
        self.composites.all(destination)
    }

    /// True if nothing is passed on but by the default virtual topics.
    pub fn is_default(&self) -> bool {
        let default = Self::default();
        self.composites.is_empty()
            && self.mirror.is_none()
            && self.virtual_topics.iter().eq(default.virtual_topics.iter())
    }

    /// The virtual topics, in the order in which they were given.
    pub fn virtual_topics(&self) -> impl Iterator<Item = &VirtualTopic> {
        self.virtual_topics.iter().map(|(_, topic)| topic)
    }
}

/// What cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptorError(String);

impl fmt::Display for InterceptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InterceptorError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[(&str, FieldValue)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in values {
            fields.insert(*name, 0, value.clone());
        }
        fields
    }

    fn said(text: &str) -> FieldValue {
        FieldValue::Text(text.to_owned())
    }

    #[test]
    fn the_default_virtual_topics() {
        let all = Interceptors::default();
        assert!(all.is_default());
        let topic = Destination::topic("VirtualTopic.Orders.New");
        let feeds = all.feeds(&topic).collect::<Vec<_>>();
        assert_eq!(feeds.len(), 1);
        assert_eq!(feeds[0].1, Pattern::queue("Consumer.*.VirtualTopic.Orders.New"));
        for (queue, fed_by) in [
            ("Consumer.A.VirtualTopic.Orders", Some("VirtualTopic.Orders")),
            ("Consumer..VirtualTopic.Orders.X", Some("VirtualTopic.Orders.X")),
            ("Consumer.A.VirtualTopic", Some("VirtualTopic")),
            ("Consumer.A.B.VirtualTopic.Orders", None),
            ("Consumer.A.Orders", None),
            ("Consumer.*.VirtualTopic.>", None),
            ("X.Consumer.A.VirtualTopic.Orders", None),
        ] {
            let queue = Destination::queue(queue);
            let topics = all
                .fed_by(&queue)
                .map(|(_, topic)| topic.name().to_owned())
                .collect::<Vec<_>>();
            assert_eq!(topics.first().map(String::as_str), fed_by, "{queue}");
        }
        for other in [
            Destination::topic("Orders"),
            Destination::queue("VirtualTopic.Orders"),
            Destination::topic("VirtualTopic.>"),
            Destination::topic("VirtualTopic.*"),
        ] {
            assert_eq!(all.feeds(&other).count(), 0, "{other}");
        }
        assert_eq!(Interceptors::none().feeds(&topic).count(), 0);
    }

    #[test]
    fn other_names_of_queues() {
        let topic = VirtualTopic::new(">", "VTQ-*-", ".copy").unwrap();
        let orders = Destination::topic("Orders");
        assert_eq!(
            topic.queues_of(&orders),
            Some(Pattern::queue("VTQ-*-Orders.copy"))
        );
        // A star within a level is no wildcard for queues, in ActiveMQ neither.
        assert_eq!(topic.topic_of(&Destination::queue("VTQ-a-Orders.copy")), None);
        let topic = VirtualTopic::new("Orders.>", "", ".*.Queue").unwrap();
        assert_eq!(
            topic.topic_of(&Destination::queue("Orders.New.a.Queue")),
            Some(Destination::topic("Orders.New"))
        );
        assert_eq!(topic.topic_of(&Destination::queue("Bills.New.a.Queue")), None);
        // What means something in expressions means nothing in names.
        let topic = VirtualTopic::new(">", "(a|b)+.", "").unwrap();
        assert_eq!(
            topic.topic_of(&Destination::queue("(a|b)+.X")),
            Some(Destination::topic("X"))
        );
        assert_eq!(topic.topic_of(&Destination::queue("a.X")), None);
        assert_eq!(
            topic.queues_of(&Destination::topic("ActiveMQ.Advisory.Queue")),
            None
        );
        for (name, prefix, postfix) in [
            ("", "a.", ""),
            ("A,B", "a.", ""),
            (">", "", ""),
            (">", "a,b.", ""),
        ] {
            assert!(
                VirtualTopic::new(name, prefix, postfix).is_err(),
                "{name} {prefix} {postfix}"
            );
        }
    }

    #[test]
    fn composites_and_mirrors() {
        let list = FieldValue::List(vec![
            said("A"),
            said("topic://B"),
            FieldValue::Table(fields(&[("queue", said("C")), ("selector", said("n > 1"))])),
        ]);
        let composite = Composite::read(fields(&[("queue", said("ALL")), ("forwardTo", list)])).unwrap();
        let to = composite
            .forward_to
            .iter()
            .map(|forward| {
                let selector = forward.selector.as_ref().map(|selector| selector.as_str());
                (forward.destination.to_string(), selector.map(str::to_owned))
            })
            .collect::<Vec<_>>();
        assert_eq!(
            to,
            [
                ("queue://A".to_owned(), None),
                ("topic://B".to_owned(), None),
                ("queue://C".to_owned(), Some("n > 1".to_owned()))
            ]
        );
        assert!(!composite.keeps(3) && !composite.keeps(0));
        let keeping = Composite {
            forward_only: false,
            ..composite.clone()
        };
        assert!(keeping.keeps(3) && keeping.keeps(0));
        let rest = Composite {
            send_when_not_matched: true,
            ..composite.clone()
        };
        assert!(!rest.keeps(3) && rest.keeps(0));
        let mut all = Interceptors::default();
        all.add_composite(composite.clone());
        assert_eq!(
            all.composites(&Destination::queue("ALL")).collect::<Vec<_>>(),
            [&composite]
        );
        assert_eq!(all.composites(&Destination::topic("ALL")).count(), 0);
        assert!(!all.is_default());

        let mirror = Mirror::default();
        let mirrored = mirror.topic_of(&Destination::queue("A"));
        assert_eq!(mirrored, Some(Destination::topic("VirtualTopic.Mirror.A")));
        assert_eq!(mirror.topic_of(&Destination::topic("A")), None);
    }

    #[test]
    fn what_is_refused() {
        let flagged = |name| {
            VirtualTopic::read(fields(&[(name, FieldValue::Bool(true))])).map_err(|error| error.to_string())
        };
        assert!(flagged("concurrentSend").unwrap_err().contains("one step"));
        assert!(flagged("transactedSend").is_ok());
        assert!(flagged("selectorAware").unwrap().selector_aware);
        assert!(flagged("sideways").unwrap_err().contains("selectorAware"));
        for (values, says) in [
            (&[("queue", said("A"))][..], "forwardTo"),
            (&[("forwardTo", said("A"))], "name"),
            (&[("queue", said("A")), ("forwardTo", said("A"))], "itself"),
            (&[("queue", said("A")), ("forwardTo", said("B.>"))], "B.>"),
            (&[("queue", said("A")), ("forwardTo", said("B,C"))], "B,C"),
            (
                &[("tempQueue", FieldValue::Bool(true)), ("forwardTo", said("A"))],
                "temporary",
            ),
            (
                &[
                    ("queue", said("A")),
                    ("forwardTo", said("B")),
                    ("copyMessage", said("false")),
                ],
                "copy",
            ),
        ] {
            let error = Composite::read(fields(values)).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
        assert!(Mirror::read(fields(&[("copyMessage", said("false"))])).is_err());
    }
}
