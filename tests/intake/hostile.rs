//! Bodies that are hostile, broken or odd, each with the one right answer.
//!
//! The list is posted twice: here to the reader, and over HTTP to the intake listener.

use handover::intake::Class;

/// The right answer to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// 200: an event of this class.
    Recorded(Class),
    /// 400: the sender is told that the body is broken.
    Malformed,
    /// 202: put aside until we know more.
    Unknown,
}

/// One body.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    /// What is special about it.
    pub(crate) name: String,
    /// The header it is sent with.
    pub(crate) content_type: &'static str,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// The one right answer.
    pub(crate) expect: Expect,
}

use Expect::{Malformed, Recorded, Unknown};

const JSON: &str = "application/json";
const XML: &str = "text/xml; charset=utf-8";

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    let mut list = List(Vec::new());
    list.nothing_and_shapes();
    list.json_syntax();
    list.json_traps();
    list.text_in_json();
    list.devices();
    list.values();
    list.times();
    list.xml_syntax();
    list.xml_traps();
    list.xml_oddities();
    list.sizes();
    list.encodings();
    list.0
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().concat()
}

struct List(Vec<Hostile>);

impl List {
    fn add(&mut self, name: &str, content_type: &'static str, body: impl Into<Vec<u8>>, expect: Expect) {
        self.0.push(Hostile { name: name.to_owned(), content_type, body: body.into(), expect });
    }

    fn json(&mut self, name: &str, body: &str, expect: Expect) {
        self.add(name, JSON, body, expect);
    }

    /// A sound event with these fields put before its others.
    fn with(&mut self, name: &str, fields: &str, expect: Expect) {
        self.json(name, &format!(r#"{{{fields},"EventType":"Check In","SerialNumber":"DMPX7Q2LK1"}}"#), expect);
    }

    fn xml(&mut self, name: &str, body: &str, expect: Expect) {
        self.add(name, XML, body, expect);
    }

    /// A sound event in XML with these elements put before its others.
    fn xml_with(&mut self, name: &str, elements: &str, expect: Expect) {
        let rest = "<EventType>Check In</EventType><SerialNumber>DMPX7Q2LK1</SerialNumber>";
        self.xml(name, &format!("<Eventlog>{elements}{rest}</Eventlog>"), expect);
    }

    fn nothing_and_shapes(&mut self) {
        self.json("an empty body", "", Malformed);
        self.json("only blanks", " \r\n\t ", Malformed);
        self.json("only a byte order mark", "\u{feff}", Malformed);
        self.json("an empty array", "[]", Unknown);
        self.json("an array of events", r#"[{"EventType":"Check In","SerialNumber":"A1"}]"#, Unknown);
        self.json("an array of arrays", "[[],[[]]]", Unknown);
        self.json("an empty object", "{}", Unknown);
        self.json("an object of somebody else", r#"{"event":{"jssID":1},"webhook":{"name":"x"}}"#, Unknown);
        self.json("null", "null", Unknown);
        self.json("true", "true", Unknown);
        self.json("a number", "42", Unknown);
        self.json("a text", r#""EventType""#, Unknown);
        self.json("an event in an envelope", r#"{"data":{"EventType":"Check In","SerialNumber":"A1"}}"#, Unknown);
        self.json("a cloud event", r#"{"specversion":"1.0","type":"x","data":{"SerialNumber":"A1"}}"#, Unknown);
    }

    fn json_syntax(&mut self) {
        let broken: [(&str, &str); 27] = [
            ("an open brace", "{"),
            ("a closed brace", "}"),
            ("a key alone", r#"{"EventType"}"#),
            ("a key and a colon", r#"{"EventType":"#),
            ("a truncated text", r#"{"EventType":"Check"#),
            ("a truncated object", r#"{"EventType":"Check In","SerialNumber":"A1""#),
            ("a comma at the end", r#"{"SerialNumber":"A1",}"#),
            ("a comma at the start", r#"{,"SerialNumber":"A1"}"#),
            ("two commas", r#"{"SerialNumber":"A1",,"EventId":1}"#),
            ("single quotes", "{'SerialNumber':'A1'}"),
            ("bare keys", r#"{SerialNumber:"A1"}"#),
            ("a comment", r#"{"SerialNumber":"A1"/* x */}"#),
            ("a line comment", "{\"SerialNumber\":\"A1\"} // x"),
            ("not a number", r#"{"SerialNumber":"A1","EventId":NaN}"#),
            ("infinity", r#"{"SerialNumber":"A1","EventId":Infinity}"#),
            ("minus infinity", r#"{"SerialNumber":"A1","EventId":-Infinity}"#),
            ("a leading zero", r#"{"SerialNumber":"A1","EventId":012}"#),
            ("a leading plus", r#"{"SerialNumber":"A1","EventId":+1}"#),
            ("a hexadecimal number", r#"{"SerialNumber":"A1","EventId":0x10}"#),
            ("a number beyond any", r#"{"SerialNumber":"A1","EventId":1e999}"#),
            ("a point without digits", r#"{"SerialNumber":"A1","EventId":1.}"#),
            ("two objects", r#"{"SerialNumber":"A1"}{"SerialNumber":"A2"}"#),
            ("two lines of events", "{\"SerialNumber\":\"A1\"}\n{\"SerialNumber\":\"A2\"}"),
            ("something after the end", r#"{"SerialNumber":"A1"}x"#),
            ("a form", "EventType=Check+In&SerialNumber=A1"),
            ("plain words", "hello"),
            ("an array that does not end", "[[[[["),
        ];
        for (name, body) in broken {
            self.json(name, body, Malformed);
        }
    }

    fn json_traps(&mut self) {
        self.with("a key twice", r#""EventType":"Check Out""#, Malformed);
        self.with("a key twice in other case", r#""EVENTTYPE":"Check Out""#, Malformed);
        self.with("a key twice, once null", r#""SerialNumber":null"#, Malformed);
        self.with("a key twice, once escaped", r#""\u0053erialNumber":"A1""#, Malformed);
        self.with("an unknown key twice", r#""New":1,"New":2"#, Malformed);
        self.with("a key twice inside", r#""New":{"a":1,"a":2}"#, Malformed);
        self.with("a key twice deep inside", r#""New":[{"b":{"a":1,"a":2}}]"#, Malformed);
        self.json("a key twice in an array", r#"[{"a":1,"a":2}]"#, Malformed);
        self.with("unknown keys that differ in case", r#""New":1,"new":2"#, Recorded(Class::Handover));
        self.with("keys in any case", r#""eventid":9001,"DEVICEUUID":null"#, Recorded(Class::Handover));
        self.with("a key of a prototype", r#""__proto__":{"EventType":"x"}"#, Recorded(Class::Handover));
        self.with("an empty key", r#""":1"#, Recorded(Class::Handover));
        self.with("an object for a name", r#""EnrollmentUserName":{"name":"a"}"#, Unknown);
        self.with("an array for a number", r#""DeviceId":[41207]"#, Unknown);
        self.with("a truth value for a time", r#""EventTime":true"#, Unknown);
        self.with("an object for a number", r#""EnrollmentUserId":{"Value":7}"#, Unknown);
    }

    fn text_in_json(&mut self) {
        self.with("NUL escaped", r#""New":"a\u0000b""#, Malformed);
        self.with("NUL in a key", r#""N\u0000":1"#, Malformed);
        self.with("NUL in a name", r#""EnrollmentUserName":"amina\u0000@contoso.example""#, Malformed);
        self.with("a bell", r#""DeviceFriendlyName":"\u0007""#, Malformed);
        self.with("an escape sequence for terminals", r#""DeviceFriendlyName":"\u001b[2J""#, Malformed);
        self.with("delete", r#""DeviceFriendlyName":"a\u007fb""#, Malformed);
        self.with("a control character of the second set", r#""DeviceFriendlyName":"a\u0085b""#, Malformed);
        self.with("a raw line break in a text", "\"DeviceFriendlyName\":\"a\nb\"", Malformed);
        self.with("a raw NUL in a text", "\"DeviceFriendlyName\":\"a\0b\"", Malformed);
        self.with("an escaped line break", r#""DeviceFriendlyName":"Ward\r\n3B""#, Recorded(Class::Handover));
        self.with("a leading surrogate alone", r#""DeviceFriendlyName":"\ud83d""#, Malformed);
        self.with("a trailing surrogate alone", r#""DeviceFriendlyName":"\udcf1""#, Malformed);
        self.with("surrogates in the wrong order", r#""DeviceFriendlyName":"\udcf1\ud83d""#, Malformed);
        self.with("a surrogate alone in an unknown field", r#""New":["\ud83d"]"#, Malformed);
        self.with("a pair of surrogates", r#""DeviceFriendlyName":"\ud83d\udcf1""#, Recorded(Class::Handover));
        self.with("an unknown escape", r#""DeviceFriendlyName":"\x41""#, Malformed);
        self.with("a short escape", r#""DeviceFriendlyName":"\u41""#, Malformed);
        self.with("text from right to left", r#""DeviceFriendlyName":"\u202egnp.exe""#, Recorded(Class::Handover));
        self.with("markup in a name", r#""DeviceFriendlyName":"<script>alert(1)</script>""#, Recorded(Class::Handover));
        self.with(
            "a statement in a name",
            r#""EnrollmentUserName":"'; DROP TABLE events;--""#,
            Recorded(Class::Handover),
        );
        self.with("a formula in a name", r#""DeviceFriendlyName":"=HYPERLINK(\"x\")""#, Recorded(Class::Handover));
        self.with("a format in a name", r#""DeviceFriendlyName":"%s%n{0}${jndi:ldap://x}""#, Recorded(Class::Handover));
    }

    fn devices(&mut self) {
        self.json("no device at all", r#"{"EventType":"Check In","EventId":9002}"#, Malformed);
        self.json("only empty names of a device", r#"{"EventType":"Check In","SerialNumber":"","Udid":"System.Byte[]","DeviceId":0,"DeviceUUID":"00000000-0000-0000-0000-000000000000"}"#, Malformed);
        self.json(
            "only null names of a device",
            r#"{"EventType":"Check In","SerialNumber":null,"DeviceId":null}"#,
            Malformed,
        );
        self.json("only a blank serial number", r#"{"EventType":"Check In","SerialNumber":"   "}"#, Malformed);
        self.json("only a UDID of zeros", r#"{"EventType":"Check In","Udid":"0000-0000"}"#, Malformed);
        self.json("only a UDID that is none", r#"{"EventType":"Check In","Udid":"my iPad"}"#, Malformed);
        self.json("only a number that is none", r#"{"EventType":"Check In","DeviceId":"abc"}"#, Malformed);
        self.json("only a number below zero", r#"{"EventType":"Check In","DeviceId":-41207}"#, Malformed);
        self.json("only a number too large", r#"{"EventType":"Check In","DeviceId":18446744073709551615}"#, Malformed);
        self.json("only a fraction of a number", r#"{"EventType":"Check In","DeviceId":1.5}"#, Malformed);
        self.json("only a uuid that is none", r#"{"EventType":"Check In","DeviceUUID":"{5e0d4f0b}"}"#, Malformed);
        self.json("only a friendly name", r#"{"EventType":"Check In","DeviceFriendlyName":"iPad"}"#, Malformed);
        self.json("only a serial number", r#"{"SerialNumber":"A1"}"#, Recorded(Class::Unknown));
        self.json(
            "only a UDID",
            r#"{"EventType":"Check In","Udid":"00008103-000a51c23e88001e"}"#,
            Recorded(Class::Handover),
        );
        self.json(
            "only a number as text",
            r#"{"EventType":"Check In","DeviceId":" 41207 "}"#,
            Recorded(Class::Handover),
        );
        self.json(
            "only a uuid in braces",
            r#"{"EventType":"Check In","DeviceUUID":"{5E0D4F0B-7F5E-4D0E-9B57-0C0F6A1F7A11}"}"#,
            Recorded(Class::Handover),
        );
    }

    fn values(&mut self) {
        self.with("an unknown number of a kind", r#""EventId":2147483648"#, Recorded(Class::Handover));
        self.with("a number of a kind that is none", r#""EventId":"check""#, Recorded(Class::Handover));
        self.with("a uuid of a user that is none", r#""EnrollmentUserUUID":"amina""#, Recorded(Class::Handover));
        self.with("a status nobody knows", r#""EnrollmentStatus":"Dreaming""#, Recorded(Class::Handover));
        self.with("a status of unenrolled", r#""EnrollmentStatus":"unenrolled ""#, Recorded(Class::Unenrolled));
        self.with("fields of tomorrow", r#""New":{"a":[1,2,{"b":null}]},"Newer":false"#, Recorded(Class::Handover));
        self.json("no kind at all", r#"{"EventTime":"2026-03-02T05:58:41Z","DeviceId":1}"#, Recorded(Class::Unknown));
        self.json("a kind nobody knows", r#"{"EventType":"Abgemeldet","DeviceId":1}"#, Recorded(Class::Unknown));
        self.json("a kind of signs only", r#"{"EventType":"--- ","DeviceId":1}"#, Recorded(Class::Unknown));
        self.json(
            "polling is no hand-over",
            r#"{"EventType":"SecureChannelCheckIn","DeviceId":1}"#,
            Recorded(Class::Unknown),
        );
        self.json("a wipe by number", r#"{"EventId":25,"DeviceId":1}"#, Recorded(Class::WipeRequested));
        self.json(
            "a wipe that happened",
            r#"{"EventType":"Wipe Confirmed","DeviceId":1,"EnrollmentStatus":"Unenrolled"}"#,
            Recorded(Class::Wiped),
        );
        self.json("a deletion", r#"{"EventType":"DeviceDeleted","DeviceId":1}"#, Recorded(Class::Deleted));
        self.json("an unenrolment by number", r#"{"EventId":"39","DeviceId":1}"#, Recorded(Class::Unenrolled));
        self.json(
            "blanks around everything",
            " \n{ \"EventType\" : \" Check - In \" , \"DeviceId\" : 1 } \n",
            Recorded(Class::Handover),
        );
    }

    fn times(&mut self) {
        let times = [
            "soon",
            "2026-02-30T00:00:00Z",
            "2026-03-02T25:00:00Z",
            "99999-01-01T00:00:00Z",
            "/Date(99999999999999999999)/",
            "/Date(9223372036854775807)/",
            "/Date(-9223372036854775808)/",
            "/Date(1+0100",
            "\\/Date(1772528403986)\\/",
            "0001-01-01T00:00:00",
            "1969-12-31T23:59:59.9999999Z",
            "2026-03-02T05:58:41.123456789012345Z",
            "2026-03-02T05:58:41+99:99",
            "２０２６-03-02T05:58:41Z",
            "2126-03-02T05:58:41Z",
        ];
        for time in times {
            let body = format!(r#""EventTime":{}"#, serde_json::json!(time));
            self.with(&format!("the time {time}"), &body, Recorded(Class::Handover));
        }
        self.with("a time as a number", r#""EventTime":1772528403986"#, Recorded(Class::Handover));
        self.with("a time as a fraction", r#""EventTime":1.5e300"#, Recorded(Class::Handover));
    }

    fn xml_syntax(&mut self) {
        let broken: [(&str, &str); 24] = [
            ("a tag alone", "<"),
            ("an open root", "<Eventlog>"),
            ("a truncated element", "<Eventlog><SerialNumber>A1"),
            ("a truncated end", "<Eventlog><SerialNumber>A1</SerialNumber></Event"),
            ("ends that do not match", "<Eventlog><SerialNumber>A1</EventType></Eventlog>"),
            ("ends in the wrong order", "<Eventlog><SerialNumber><Udid></SerialNumber></Udid></Eventlog>"),
            ("an end too many", "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog></Eventlog>"),
            ("an end alone", "</Eventlog>"),
            ("two roots", "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog><Eventlog/>"),
            ("text after the root", "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog>x"),
            ("text before the root", "<?xml version=\"1.0\"?>x<Eventlog><SerialNumber>A1</SerialNumber></Eventlog>"),
            ("a reference after the root", "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog>&#120;"),
            ("characters after the root", "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog><![CDATA[x]]>"),
            ("an attribute twice", "<Eventlog a=\"1\" a=\"2\"><SerialNumber>A1</SerialNumber></Eventlog>"),
            ("an attribute without quotes", "<Eventlog a=1><SerialNumber>A1</SerialNumber></Eventlog>"),
            ("an attribute without a value", "<Eventlog a><SerialNumber>A1</SerialNumber></Eventlog>"),
            ("a tag in an attribute", "<Eventlog a=\"<b>\"><SerialNumber>A1</SerialNumber></Eventlog>"),
            ("a name that is none", "<Eventlog><1>A1</1></Eventlog>"),
            ("an ampersand alone", "<Eventlog><SerialNumber>A & B</SerialNumber></Eventlog>"),
            ("a comment that does not end", "<Eventlog><SerialNumber>A1</SerialNumber><!-- </Eventlog>"),
            ("two dashes in a comment", "<Eventlog><!-- a -- b --><SerialNumber>A1</SerialNumber></Eventlog>"),
            (
                "a declaration in the middle",
                "<Eventlog><?xml version=\"1.0\"?><SerialNumber>A1</SerialNumber></Eventlog>",
            ),
            ("only a declaration", "<?xml version=\"1.0\"?>"),
            ("only a comment", "<!-- x -->"),
        ];
        for (name, body) in broken {
            self.xml(name, body, Malformed);
        }
    }

    fn xml_traps(&mut self) {
        let root = "<Eventlog><SerialNumber>A1</SerialNumber></Eventlog>";
        self.xml("a document type", &format!("<!DOCTYPE Eventlog>{root}"), Malformed);
        self.xml(
            "an external document type",
            &format!("<!DOCTYPE Eventlog SYSTEM \"http://127.0.0.1/x\">{root}"),
            Malformed,
        );
        self.xml(
            "an external entity",
            "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Eventlog><SerialNumber>&x;</SerialNumber></Eventlog>",
            Malformed,
        );
        let laughs: String =
            joined((1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))));
        let bomb = format!(
            "<!DOCTYPE a [<!ENTITY l0 \"lol\">{laughs}]><Eventlog><SerialNumber>&l9;</SerialNumber></Eventlog>"
        );
        self.xml("a billion laughs", &bomb, Malformed);
        self.xml(
            "a parameter entity",
            &format!("<!DOCTYPE a [<!ENTITY % x SYSTEM \"http://127.0.0.1/\"> %x;]>{root}"),
            Malformed,
        );
        self.xml_with("an entity nobody declared", "<Udid>&x;</Udid>", Malformed);
        self.xml_with("an entity of HTML", "<DeviceFriendlyName>&nbsp;</DeviceFriendlyName>", Malformed);
        self.xml_with("a reference to NUL", "<DeviceFriendlyName>&#0;</DeviceFriendlyName>", Malformed);
        self.xml_with(
            "a reference to a control character",
            "<DeviceFriendlyName>&#x1b;</DeviceFriendlyName>",
            Malformed,
        );
        self.xml_with("a reference to a surrogate", "<DeviceFriendlyName>&#xD83D;</DeviceFriendlyName>", Malformed);
        self.xml_with("a reference beyond Unicode", "<DeviceFriendlyName>&#x110000;</DeviceFriendlyName>", Malformed);
        self.xml_with("a reference that is none", "<DeviceFriendlyName>&#zz;</DeviceFriendlyName>", Malformed);
        self.xml_with("a raw control character", "<DeviceFriendlyName>\u{1b}[2J</DeviceFriendlyName>", Malformed);
        self.xml_with("a field twice", "<SerialNumber>A2</SerialNumber>", Malformed);
        self.xml_with("a field twice in other case", "<serialnumber>A2</serialnumber>", Malformed);
        self.xml_with("elements in a field", "<DeviceId><Value>7</Value></DeviceId>", Unknown);
        let many: String = joined((0..1000).map(|n| format!(" a{n}=\"\"")));
        self.xml(
            "a thousand attributes",
            &format!("<Eventlog{many}><SerialNumber>A1</SerialNumber></Eventlog>"),
            Malformed,
        );
        self.xml(
            "an inclusion",
            "<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>",
            Unknown,
        );
    }

    fn xml_oddities(&mut self) {
        self.xml_with(
            "a reference to a character",
            "<DeviceFriendlyName>&#x69;&lt;&amp;</DeviceFriendlyName>",
            Recorded(Class::Handover),
        );
        self.xml_with(
            "characters as they are",
            "<DeviceFriendlyName><![CDATA[a <b> & c]]></DeviceFriendlyName>",
            Recorded(Class::Handover),
        );
        self.xml_with(
            "a comment in a value",
            "<DeviceFriendlyName>a<!-- x -->b</DeviceFriendlyName>",
            Recorded(Class::Handover),
        );
        self.xml_with("an instruction", "<?php echo 1; ?>", Recorded(Class::Handover));
        self.xml_with("unknown fields more than once", "<New><a/><a/></New><New>2</New>", Recorded(Class::Handover));
        self.xml_with("text between the fields", "surprise", Recorded(Class::Handover));
        self.xml_with("a field marked as nil", "<Udid xsi:nil=\"true\" />", Recorded(Class::Handover));
        self.xml("an empty event", "<Eventlog/>", Unknown);
        self.xml("an event without a device", "<Eventlog><EventType>Check In</EventType></Eventlog>", Malformed);
        self.xml("another root", "<JSSEvent><SerialNumber>A1</SerialNumber></JSSEvent>", Unknown);
        self.xml("a web page", "<html><body><p>Sign in</p></body></html>", Unknown);
        self.xml("a web page with a document type", "<!DOCTYPE html><html></html>", Malformed);
        self.xml(
            "an envelope",
            "<s:Envelope xmlns:s=\"x\"><Eventlog><SerialNumber>A1</SerialNumber></Eventlog></s:Envelope>",
            Unknown,
        );
        self.xml(
            "another root in other namespace",
            "<x:Eventlog xmlns:x=\"y\"><SerialNumber>A1</SerialNumber></x:Eventlog>",
            Unknown,
        );
        self.xml(
            "a declaration of a 16-bit encoding",
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><Eventlog><SerialNumber>A1</SerialNumber></Eventlog>",
            Recorded(Class::Unknown),
        );
        self.xml(
            "a broken declaration",
            "<?xml encoding=\"utf-8\"?><Eventlog><SerialNumber>A1</SerialNumber></Eventlog>",
            Malformed,
        );
        self.add(
            "XML sent as JSON",
            JSON,
            "<Eventlog><EventId>39</EventId><DeviceId>1</DeviceId></Eventlog>",
            Recorded(Class::Unenrolled),
        );
        self.add("JSON sent as XML", XML, r#"{"EventId":39,"DeviceId":1}"#, Recorded(Class::Unenrolled));
        self.add(
            "JSON sent as nothing in particular",
            "application/octet-stream",
            r#"{"EventId":39,"DeviceId":1}"#,
            Recorded(Class::Unenrolled),
        );
    }

    fn sizes(&mut self) {
        let nest = |depth: usize| format!(r#""New":{}{}"#, "[".repeat(depth), "]".repeat(depth));
        self.with("arrays as deep as allowed", &nest(31), Recorded(Class::Handover));
        self.with("arrays one too deep", &nest(32), Malformed);
        self.with("arrays a thousand deep", &nest(1000), Malformed);
        self.json("arrays only, a hundred thousand deep", &"[".repeat(100_000), Malformed);
        self.json("objects only, very deep", &r#"{"a":"#.repeat(20_000), Malformed);
        let tags = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        self.xml_with("elements as deep as allowed", &tags(31), Recorded(Class::Handover));
        self.xml_with("elements one too deep", &tags(32), Malformed);
        self.xml("elements only, very deep", &"<a>".repeat(50_000), Malformed);
        let text = |length: usize| format!(r#""DeviceFriendlyName":"{}""#, "a".repeat(length));
        self.with("a text as long as allowed", &text(4096), Recorded(Class::Handover));
        self.with("a text one too long", &text(4097), Malformed);
        self.with("a key too long", &format!(r#""{}":1"#, "a".repeat(4097)), Malformed);
        self.with("a long text in an unknown field", &format!(r#""New":["{}"]"#, "a".repeat(5000)), Malformed);
        self.xml_with("a long text in an element", &format!("<New>{}</New>", "a".repeat(4097)), Malformed);
        self.xml_with("a long text in pieces", &format!("<New>{}</New>", "a<!---->".repeat(4097)), Malformed);
        let array = |length: usize| format!(r#""New":[0{}]"#, ",0".repeat(length - 1));
        self.with("an array as long as allowed", &array(1000), Recorded(Class::Handover));
        self.with("an array one too long", &array(1001), Malformed);
        let keys: String = joined((0..10_000).map(|n| format!(r#""k{n}":{n},"#)));
        self.with("ten thousand unknown keys", keys.trim_end_matches(','), Recorded(Class::Handover));
        self.with("a number of many digits", &format!(r#""New":{}"#, "9".repeat(300)), Recorded(Class::Handover));
        self.with("a number of too many digits", &format!(r#""New":{}"#, "9".repeat(5000)), Malformed);
    }

    fn encodings(&mut self) {
        let sound = r#"{"EventType":"Check In","SerialNumber":"A1","DeviceFriendlyName":"Gerät"}"#;
        self.json("a byte order mark", &format!("\u{feff}{sound}"), Recorded(Class::Handover));
        self.json("two byte order marks", &format!("\u{feff}\u{feff}{sound}"), Malformed);
        self.xml(
            "a byte order mark in XML",
            "\u{feff}<?xml version=\"1.0\"?><Eventlog><SerialNumber>A1</SerialNumber></Eventlog>",
            Recorded(Class::Unknown),
        );
        self.add("UTF-8 said in capitals", "application/json; charset=\"UTF-8\"", sound, Recorded(Class::Handover));
        self.add("another charset", "application/json; charset=iso-8859-1", sound, Malformed);
        self.add(
            "another charset where it makes no difference",
            "application/json; charset=us-ascii",
            r#"{"DeviceId":1}"#,
            Recorded(Class::Unknown),
        );
        let latin1: Vec<u8> =
            sound.chars().map(|c| u8::try_from(u32::from(c)).expect("a character of Latin-1")).collect();
        self.add("bytes that are not UTF-8", JSON, latin1, Malformed);
        let wide: Vec<u8> = sound.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.add("16-bit characters", JSON, wide.clone(), Malformed);
        self.add("16-bit characters with a mark", JSON, [&[0xff, 0xfe][..], &wide].concat(), Malformed);
        self.add("an overlong form", JSON, b"{\"SerialNumber\":\"\xc0\xaf\"}".to_vec(), Malformed);
        self.add("a surrogate in UTF-8", JSON, b"{\"SerialNumber\":\"\xed\xa0\xbd\"}".to_vec(), Malformed);
        self.add("half a character", JSON, b"{\"SerialNumber\":\"\xc3\"}".to_vec(), Malformed);
        self.add("compressed bytes", JSON, b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec(), Malformed);
        self.xml(
            "an encoding that makes a difference",
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><Eventlog><SerialNumber>Ä1</SerialNumber></Eventlog>",
            Malformed,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use handover::intake::{Rules, Unreadable, read};

    use super::*;

    fn answer(hostile: &Hostile) -> Expect {
        match read(&hostile.body, Some(hostile.content_type), &Rules::new("uem")) {
            Ok(notice) => Recorded(notice.class),
            Err(Unreadable::Malformed { .. }) => Malformed,
            Err(Unreadable::Unknown { .. }) => Unknown,
        }
    }

    #[test]
    fn every_hostile_body_has_one_right_answer() {
        let wrong: Vec<_> = all()
            .into_iter()
            .map(|hostile| (hostile.name.clone(), hostile.expect, answer(&hostile)))
            .filter(|(_, expect, got)| expect != got)
            .collect();

        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_list_is_long_and_names_each_body_once() {
        let list = all();
        let names: std::collections::BTreeSet<_> = list.iter().map(|hostile| hostile.name.clone()).collect();

        assert!(list.len() >= 130, "{}", list.len());
        assert_eq!(names.len(), list.len());
    }

    #[test]
    fn the_largest_bodies_take_no_longer_than_their_size() {
        let limit = 256 * 1024;
        let fill = |unit: &str| unit.repeat(limit / unit.len());
        for body in
            [fill("["), fill("{\"a\":"), fill("<a>"), fill("<a b=\"\"/>"), fill("&amp;"), fill("<!---->"), fill("9")]
        {
            let began = Instant::now();
            let _ = read(body.as_bytes(), None, &Rules::new("uem"));
            assert!(began.elapsed() < Duration::from_secs(2), "{}", &body[..8]);
        }
        assert!(matches!(read(&vec![b' '; limit + 1], None, &Rules::new("uem")), Err(Unreadable::Malformed { .. })));
    }

    #[test]
    fn why_a_body_is_refused_never_quotes_it() {
        for hostile in all() {
            if let Err(error) = read(&hostile.body, Some(hostile.content_type), &Rules::new("uem")) {
                let why = error.to_string();
                assert!(!why.contains("amina") && !why.contains("A1"), "{why}");
                assert!(why.len() < 200, "{why}");
            }
        }
    }
}
