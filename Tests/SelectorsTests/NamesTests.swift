import Names
import Testing

@Suite("Names")
struct NamesTests {
  @Test(
    "SHA-1 matches the published examples",
    arguments: [
      ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"), ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
      ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
      (String(repeating: "a", count: 1_000), "291e9a6c66994949b57ba5e650361e98fc36b1ba"),
    ])
  func sha1(message: String, digest: String) { #expect(hexadecimalText(SHA1.digest(of: message.utf8)) == digest) }

  @Test(
    "SHA-224 and SHA-256 match the published examples",
    arguments: [
      ("", "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      (
        "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
      ),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "75388b16512776cc5dba5da1fd890150b0c6455cb4f58b1952522525",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
    ])
  func sha2(message: String, digest224: String, digest256: String) {
    #expect(hexadecimalText(SHA224.digest(of: message.utf8)) == digest224)
    #expect(hexadecimalText(SHA256.digest(of: message.utf8)) == digest256)
  }

  @Test(
    "Base64 matches RFC 4648, section 10",
    arguments: [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
    ])
  func base64(plain: String, coded: String) {
    #expect(Base64.text(plain.utf8) == coded)
    #expect(Base64.urlText(plain.utf8) == String(coded.prefix { $0 != "=" }))
    #expect(Base64.octets(coded) == Array(plain.utf8))
  }
  @Test("Base64 that no encoder writes is refused", arguments: ["Z", "Zh==", "Zg=", "Z g=", "====", "Zm9vY"])
  func badBase64(text: String) { #expect(Base64.octets(text) == nil) }
  @Test("The URL alphabet has - and _")
  func urlAlphabet() { #expect(Base64.urlText([0xfb, 0xff]) == "-_8" && Base64.text([0xfb, 0xff]) == "+/8=") }

  @Test("The identifier of all() is Calico's")
  func uniqueIdentifier() { #expect(uniqueID(prefix: "s", text: "all()") == "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug") }

  @Test("Host interface names have 15 characters")
  func interfaceNames() {
    // printf default.web-1 | sha1sum
    #expect(HostInterfaceName.forPod(namespace: "default", pod: "web-1") == "cali0761ccbeace")
    #expect(HostInterfaceName.forContainer("0123456789abcdef") == "cali0123456789a")
  }

  @Test("Workload endpoint names double the dashes and read back")
  func workloadEndpointNames() throws {
    let name = try WorkloadEndpointName(node: "node-1", orchestrator: "k8s", workload: "web--1-x", endpoint: "eth0")
    #expect(name.description == "node--1-k8s-web----1--x-eth0")
    #expect(try WorkloadEndpointName(parsing: name.description) == name)
    #expect(
      try WorkloadEndpointName(node: "n", orchestrator: "libnetwork", workload: "", endpoint: "e").description
        == "n-libnetwork-libnetwork-e")
    #expect(WorkloadEndpointName.prefix(node: "node1", orchestrator: "k8s", workload: "pod") == "node1-k8s-pod-")
    let other = try WorkloadEndpointName(parsing: "node1-k8s-pod--1-eth0")
    #expect(other.description.hasPrefix("node1-k8s-pod-") && !other.matches(node: "node1", orchestrator: "k8s", workload: "pod"))
    #expect(other.matches(node: "node1", orchestrator: "k8s", workload: "pod-1"))
  }
  @Test(
    "Names that no fields give are refused",
    arguments: ["", "a-b-c", "a-b-c-d-e", "a---b-c-d", "a-b-c-", "-a-b-c", "a-b-c-d--", "--a-b-c-d"])
  func badWorkloadEndpointNames(text: String) {
    #expect(throws: WorkloadEndpointName.Fault.self) { try WorkloadEndpointName(parsing: text) }
  }
  @Test("Fields beginning or ending with a dash are refused", arguments: ["-a", "a-", "-", ""])
  func badFields(field: String) {
    #expect(throws: WorkloadEndpointName.Fault.self) {
      try WorkloadEndpointName(node: field, orchestrator: "k8s", workload: "w", endpoint: "e")
    }
    #expect(throws: WorkloadEndpointName.Fault.self) {
      try WorkloadEndpointName(node: "n", orchestrator: "k8s", workload: "w", endpoint: field)
    }
  }

  @Test("Key parts never split", arguments: [("a/b%c", "a%2fb%25c"), ("plain", "plain"), ("%2f", "%252f"), ("", "")])
  func keyParts(plain: String, escaped: String) {
    #expect(KeyPart.escape(plain) == escaped)
    #expect(KeyPart.unescape(escaped) == plain)
  }

  @Test("Good names", arguments: ["a", "a-b", "0", "a.b-c.d", String(repeating: "a", count: 253)])
  func goodSubdomains(text: String) { #expect(NameRules.dnsSubdomainFault(text) == nil) }
  @Test(
    "Bad names have a reason", arguments: ["", "-a", "a-", "a..b", ".a", "a.", "A", "a_b", "ä", "a b", String(repeating: "a", count: 254)])
  func badSubdomains(text: String) { #expect(NameRules.dnsSubdomainFault(text)?.isEmpty == false) }
  @Test("An upper-case name comes with the name to write")
  func upperCase() { #expect(NameRules.dnsSubdomainFault("Web")?.contains("write \"web\"") == true) }

  @Test(
    "Label keys",
    arguments: [
      ("app", true), ("a.b/c_D.e", true), ("projectcalico.org/tier", true), ("", false), ("/a", false), ("a/", false), ("a/b/c", false),
      ("A.b/c", false),
      ("-a", false), ("a b", false), (String(repeating: "a", count: 64), false),
    ])
  func labelKeys(key: String, good: Bool) { #expect((NameRules.labelKeyFault(key) == nil) == good) }
  @Test(
    "Label values",
    arguments: [
      ("", true), ("A_b.c-9", true), ("-a", false), ("a.", false), ("a/b", false), (String(repeating: "a", count: 63), true),
      (String(repeating: "a", count: 64), false),
    ])
  func labelValues(value: String, good: Bool) { #expect((NameRules.labelValueFault(value) == nil) == good) }

  @Test("UUIDs are of version 4 and differ")
  func uuids() {
    let (one, other) = (Array(randomUUID()), Array(randomUUID()))
    #expect(one != other && one.count == 36 && one[14] == "4" && "89ab".contains(one[19]) && [8, 13, 18, 23].allSatisfy { one[$0] == "-" })
  }

  @Test(
    "Times print as RFC 3339 and read back",
    arguments: [
      (0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (1_767_225_600, "2026-01-01T00:00:00Z"),
      (-1, "1969-12-31T23:59:59Z"),
      (4_107_542_399, "2100-02-28T23:59:59Z"), (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] as [(Int64, String)])
  func times(seconds: Int64, text: String) {
    #expect(UTCTime(unixSeconds: seconds).text == text)
    #expect(UTCTime(text)?.unixSeconds == seconds)
  }
  @Test("Fractions and offsets")
  func fractions() {
    #expect(UTCTime(unixSeconds: 1, nanoseconds: 250_000_000).description == "1970-01-01T00:00:01.25Z")
    #expect(UTCTime("1970-01-01T00:00:01.25Z") == UTCTime(unixSeconds: 1, nanoseconds: 250_000_000))
    #expect(UTCTime("1970-01-01T02:00:01+02:00")?.unixSeconds == 1)
    #expect(UTCTime("1969-12-31T22:00:01-02:00")?.unixSeconds == 1)
  }
  @Test(
    "What is no time is refused",
    arguments: [
      "", "1970-01-01", "1970-02-30T00:00:00Z", "1970-13-01T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:00",
      "1970-01-01T00:00:00.Z",
      "1970-01-01T00:00:00Zx", "1970-01-01T00:00:00+2:00", "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
    ])
  func badTimes(text: String) { #expect(UTCTime(text) == nil) }
}

@Suite("Names of endpoints that nobody gives")
struct ForeignEndpointNameTests {
  @Test("libnetwork has one word in the place of the workload; another is no name")
  func libnetwork() throws {
    #expect(try WorkloadEndpointName(parsing: "n-libnetwork-libnetwork-e").description == "n-libnetwork-libnetwork-e")
    #expect(throws: WorkloadEndpointName.Fault.self) { try WorkloadEndpointName(parsing: "n-libnetwork-web-e") }
  }
}
