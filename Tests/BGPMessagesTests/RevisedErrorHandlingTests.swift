/// What each malformed UPDATE costs: the table of RFC 7606 and of the documents that came after it.
import Addresses
import BGPMessages
import Testing

/// One malformed UPDATE and what has to become of it.
struct FaultCase: CustomTestStringConvertible, Sendable {
  enum Outcome: Sendable {
    /// Nothing is wrong.
    case accept
    /// The attribute goes, the route stays.
    case discard(UInt8)
    case withdraw
    case reset(code: UInt8, subcode: UInt8)
  }
  var name: String
  var attributes: String
  var nlri = "18 0a0000"
  var withdrawn = ""
  var options = DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast], localAddresses: [IPAddress("192.0.2.1")!, IPAddress("2001:db8::1")!])
  var outcome: Outcome
  var testDescription: String { name }

  init(_ name: String, _ attributes: String, nlri: String = "18 0a0000", withdrawn: String = "", _ outcome: Outcome) {
    self.name = name
    self.attributes = attributes
    self.nlri = nlri
    self.withdrawn = withdrawn
    self.outcome = outcome
  }
  var external: FaultCase {
    var copy = self
    copy.name += ", from an external peer"
    copy.options.isExternal = true
    return copy
  }
  var twoOctet: FaultCase {
    var copy = self
    copy.name += ", two-octet AS numbers"
    copy.options.fourOctetAS = false
    return copy
  }
  func with(_ name: String, _ change: (inout DecodeOptions) -> Void) -> FaultCase {
    var copy = self
    copy.name += ", " + name
    change(&copy.options)
    return copy
  }
}

private let origin = "400101 00"
private let path = "400206 0201 0000fde9"
private let hop = "400304 c0000202"
private let preference = "400504 00000064"
/// What every case has besides its fault.
private let good = origin + path + hop + preference

private let reach6 = "800e 1a 0002 01 10 20010db8000000000000000000000002 00 20 20010db8"

let faults: [FaultCase] = [
  FaultCase("sound", good, .accept),
  FaultCase("sound", origin + path + hop, .accept).external,

  // RFC 7606, section 3 (a), (j); RFC 4271, section 6.3.
  FaultCase("prefix of 33 bits", good, nlri: "21 0a00000000", .reset(code: 3, subcode: 10)),
  FaultCase("prefix cut short", good, nlri: "18 0a00", .reset(code: 3, subcode: 10)),
  FaultCase("withdrawn prefix of 33 bits", "", nlri: "", withdrawn: "21 0a00000000", .reset(code: 3, subcode: 10)),
  FaultCase("withdrawn prefix cut short", "", nlri: "", withdrawn: "20 0a", .reset(code: 3, subcode: 10)),

  // Section 3 (c): flags.
  FaultCase("ORIGIN called optional", "c00101 00" + path + hop + preference, .withdraw),
  FaultCase("AS_PATH not transitive", origin + "000206 0201 0000fde9" + hop + preference, .withdraw),
  FaultCase("MED called well-known", good + "400404 00000001", .withdraw),
  FaultCase("COMMUNITIES not transitive", good + "800804 fde90001", .withdraw),
  FaultCase("LOCAL_PREF called optional", origin + path + hop + "c00504 00000064", .withdraw),
  FaultCase("low flag bits set", "5f 01 0001 00" + path + hop + preference, .accept),
  FaultCase("MP_REACH_NLRI called transitive", origin + path + preference + "c0" + reach6.dropFirst(2), nlri: "", .withdraw),

  // Section 3 (d): missing.
  FaultCase("no ORIGIN", path + hop + preference, .withdraw),
  FaultCase("no AS_PATH", origin + hop + preference, .withdraw),
  FaultCase("no NEXT_HOP", origin + path + preference, .withdraw),
  FaultCase("no LOCAL_PREF from an internal peer", origin + path + hop, .withdraw),
  FaultCase("no attributes", "", .withdraw),
  FaultCase("no NEXT_HOP beside MP_REACH_NLRI alone", origin + path + preference + reach6, nlri: "", .accept),

  // Section 3 (g): twice.
  FaultCase("ORIGIN twice", good + "400101 02", .discard(1)),
  FaultCase("unknown attribute twice", good + "c06301 00 c06301 01", .discard(99)),
  FaultCase("MP_REACH_NLRI twice", good + reach6 + reach6, .reset(code: 3, subcode: 1)),
  FaultCase("MP_UNREACH_NLRI twice", "800f03 000201 800f03 000201", nlri: "", .reset(code: 3, subcode: 1)),

  // Section 4: lengths within the attributes.
  FaultCase("attribute longer than the attributes", good + "c008ff fde90001", .withdraw),
  FaultCase("two octets left", good + "c008", .withdraw),
  FaultCase("extended length cut", good + "d00801", .withdraw),

  // Section 5.2: without destinations there is nothing to withdraw.
  FaultCase("ORIGIN of two octets without destinations", "400102 0000", nlri: "", .reset(code: 3, subcode: 1)),
  FaultCase("bad ATOMIC_AGGREGATE without destinations", "400601 00", nlri: "", .discard(6)),
  FaultCase("attributes without destinations", good, nlri: "", .accept),

  // Section 7, attribute by attribute.
  FaultCase("ORIGIN of two octets", "400102 0000" + path + hop + preference, .withdraw),
  FaultCase("ORIGIN 3", "400101 03" + path + hop + preference, .withdraw),
  FaultCase("ORIGIN empty", "400100" + path + hop + preference, .withdraw),
  FaultCase("AS_PATH segment type 5", origin + "400206 0501 0000fde9" + hop + preference, .withdraw),
  FaultCase("AS_PATH segment type 0", origin + "400206 0001 0000fde9" + hop + preference, .withdraw),
  FaultCase("AS_PATH segment empty", origin + "400202 0200" + hop + preference, .withdraw),
  FaultCase("AS_PATH overrun", origin + "400206 0202 0000fde9" + hop + preference, .withdraw),
  FaultCase("AS_PATH with one octet left", origin + "400207 0201 0000fde9 02" + hop + preference, .withdraw),
  FaultCase("AS_PATH with AS 0 (RFC 7607)", origin + "40020a 0202 0000fde9 00000000" + hop + preference, .withdraw),
  FaultCase("AS_PATH with two-octet numbers where four are agreed on", origin + "400204 0201 fde9" + hop + preference, .withdraw),
  FaultCase("AS_PATH with a confederation segment (RFC 5065)", origin + "400206 0301 0000fde9" + hop + preference, .withdraw),
  FaultCase("AS_PATH with a confederation segment", origin + "400206 0301 0000fde9" + hop + preference, .accept)
    .with("member of ours") { $0.isConfederationMember = true },
  FaultCase("AS_PATH empty", origin + "400200" + hop + preference, .accept),
  FaultCase("first AS is another", origin + path + hop, .withdraw).external.with("checked") { $0.firstAS = 65002 },
  FaultCase("first AS is the peer's", origin + path + hop, .accept).external.with("checked") { $0.firstAS = 65001 },
  FaultCase("NEXT_HOP of five octets", origin + path + "400305 c000020200" + preference, .withdraw),
  FaultCase("NEXT_HOP unspecified", origin + path + "400304 00000000" + preference, .withdraw),
  FaultCase("NEXT_HOP multicast", origin + path + "400304 e0000001" + preference, .withdraw),
  FaultCase("NEXT_HOP loopback", origin + path + "400304 7f000001" + preference, .withdraw),
  FaultCase("NEXT_HOP class E", origin + path + "400304 f0000001" + preference, .withdraw),
  FaultCase("NEXT_HOP broadcast", origin + path + "400304 ffffffff" + preference, .withdraw),
  FaultCase("NEXT_HOP our own", origin + path + "400304 c0000201" + preference, .withdraw),
  FaultCase("NEXT_HOP our own, unused beside MP_REACH_NLRI", origin + path + "400304 c0000201" + preference + reach6, nlri: "", .accept),
  FaultCase("MED of three octets", good + "800403 000001", .withdraw),
  FaultCase("LOCAL_PREF of five octets", origin + path + hop + "400505 0000006400", .withdraw),
  FaultCase("LOCAL_PREF", origin + path + hop + preference, .discard(5)).external,
  FaultCase("LOCAL_PREF of five octets", origin + path + hop + "400505 0000006400", .discard(5)).external,
  FaultCase("ATOMIC_AGGREGATE of one octet", good + "400601 00", .discard(6)),
  FaultCase("AGGREGATOR of six octets", good + "c00706 fde90a000001", .discard(7)),
  FaultCase("AGGREGATOR of eight octets", origin + "400204 0201 fde9" + hop + preference + "c00708 0000fde90a000001", .discard(7)).twoOctet,
  FaultCase("AGGREGATOR of AS 0 (RFC 7607)", good + "c00708 000000000a000001", .discard(7)),
  FaultCase("COMMUNITIES empty", good + "c00800", .withdraw),
  FaultCase("COMMUNITIES of five octets", good + "c00805 fde9000100", .withdraw),
  FaultCase("ORIGINATOR_ID of three octets", good + "800903 0a0000", .withdraw),
  FaultCase("ORIGINATOR_ID", origin + path + hop + "800904 0a000001", .discard(9)).external,
  FaultCase("CLUSTER_LIST empty", good + "800a00", .withdraw),
  FaultCase("CLUSTER_LIST of six octets", good + "800a06 0a0000010a00", .withdraw),
  FaultCase("CLUSTER_LIST", origin + path + hop + "800a04 0a000001", .discard(10)).external,
  FaultCase("EXTENDED COMMUNITIES of nine octets", good + "c01009 000200010000000100", .withdraw),
  FaultCase("EXTENDED COMMUNITIES empty", good + "c01000", .withdraw),
  FaultCase("LARGE_COMMUNITY of eight octets (RFC 8092)", good + "c02008 0000000100000002", .withdraw),
  FaultCase("ONLY_TO_CUSTOMER of two octets (RFC 9234)", good + "c02302 fde9", .withdraw),
  FaultCase("AS4_PATH from a speaker of four octets (RFC 6793)", good + "c01106 02010000fde9", .discard(17)),
  FaultCase("AS4_AGGREGATOR from a speaker of four octets", good + "c01208 0000fde90a000001", .discard(18)),
  FaultCase("AS4_PATH malformed", origin + "400204 0201 fde9" + hop + preference + "c01105 0201 0000fd", .discard(17)).twoOctet,
  FaultCase("well-known attribute that nobody knows", good + "406301 00", .reset(code: 3, subcode: 2)),
  FaultCase("unknown and not transitive", good + "806301 00", .accept),

  // Sections 5.3, 7.11, 7.12.
  FaultCase("MP_REACH_NLRI of four octets", good + "800e04 00020100", .reset(code: 3, subcode: 9)),
  FaultCase(
    "MP_REACH_NLRI next hop of four octets for IPv6", origin + path + preference + "800e0a 000201 04 c0000202 00 00",
    .reset(code: 3, subcode: 9)),
  FaultCase(
    "MP_REACH_NLRI next hop longer than the attribute", origin + path + preference + "800e07 000201 10 200100",
    .reset(code: 3, subcode: 9)),
  FaultCase(
    "MP_REACH_NLRI prefix of 129 bits",
    origin + path + preference + "800e16 000201 10 20010db8000000000000000000000002 00 81", .reset(code: 3, subcode: 9)),
  FaultCase(
    "MP_REACH_NLRI next hop our own", origin + path + preference + "800e1a 000201 10 20010db8000000000000000000000001 00 20 20010db8",
    nlri: "", .withdraw),
  FaultCase(
    "MP_REACH_NLRI next hop multicast", origin + path + preference + "800e1a 000201 10 ff020000000000000000000000000001 00 20 20010db8",
    nlri: "", .withdraw),
  FaultCase(
    "MP_REACH_NLRI next hop unspecified", origin + path + preference + "800e1a 000201 10 00000000000000000000000000000000 00 20 20010db8",
    nlri: "", .withdraw),
  FaultCase("MP_UNREACH_NLRI of two octets", "800f02 0002", nlri: "", .reset(code: 3, subcode: 9)),
  FaultCase("MP_UNREACH_NLRI prefix cut short", "800f05 000201 20 20", nlri: "", .reset(code: 3, subcode: 9)),
  FaultCase("MP_REACH_NLRI of a family that was not agreed on", good + "800e05 000280 00 ff", .accept),
]

@Suite("RFC 7606: revised error handling")
struct RevisedErrorHandlingTests {
  @Test("An UPDATE costs what the RFC says", arguments: faults)
  func reaction(fault: FaultCase) throws {
    let wire = updateFrame(withdrawn: fault.withdrawn, attributes: fault.attributes, nlri: fault.nlri)
    let result = Result { try Message.decode(wire, options: fault.options) }
    switch (fault.outcome, result) {
    case (.reset(let code, let subcode), .failure(let error)):
      let notification = (error as? MessageFailure)?.notification
      #expect(notification?.code == code && notification?.subcode == subcode, "\(error)")
    case (.accept, .success(.update(let update))):
      #expect(update.remarks.isEmpty && update.withdrawals.isEmpty)
      #expect(update.announcements.isEmpty == (fault.nlri.isEmpty && !fault.attributes.contains("20010db8")))
    case (.discard(let code), .success(.update(let update))):
      #expect(update.remarks.map(\.fault) == [.discardAttribute(code: code)])
      #expect(update.withdrawals.isEmpty && update.announcements.isEmpty == fault.nlri.isEmpty)
    case (.withdraw, .success(.update(let update))):
      #expect(update.announcements.isEmpty && !update.withdrawals.isEmpty)
      #expect(update.remarks.contains { $0.fault == .treatAsWithdraw })
    default: Issue.record("expected \(fault.outcome), got \(result)")
    }
  }

  @Test("Lengths that exceed the message end the session", arguments: [
    "0100 0000", "0000 0100", "0003 18 0a00", "0000 0001", "00",
  ])
  func lengths(body: String) {
    // Less than the two lengths is a header error already: an UPDATE has at least 23 octets.
    let wire = frame(.update, octets(body))
    let expected = wire.count < 23 ? Notification.badMessageLength(UInt16(wire.count)) : .malformedAttributeList
    #expect { try Message.decode(wire) } throws: { ($0 as? MessageFailure)?.notification == expected }
  }

  @Test("The strongest reaction wins, and each fault is told")
  func several() throws {
    let update = try decodeUpdate(updateFrame(attributes: good + "400601 00" + "c00800", nlri: "18 0a0000"))
    #expect(update.withdrawals == [.init(.ipv4Unicast, [prefix("10.0.0.0/24")])])
    #expect(update.remarks.map(\.fault) == [.discardAttribute(code: 6), .treatAsWithdraw])
    #expect(update.remarks[1].description == "the routes count as withdrawn: COMMUNITIES has 0 octets")
  }

  @Test("A discarded LOCAL_PREF of an external peer leaves none")
  func discarded() throws {
    let update = try decodeUpdate(updateFrame(attributes: good, nlri: "18 0a0000"), DecodeOptions(isExternal: true))
    #expect(update.announcements.first?.attributes.localPreference == nil)
  }

  @Test("Where it is wished for, a broken MP_REACH_NLRI turns off its family only")
  func disableFamily() throws {
    let options = DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast], disablesFamilies: true)
    let broken = "800e16 000201 10 20010db8000000000000000000000002 00 81"
    let update = try decodeUpdate(updateFrame(attributes: good + broken, nlri: "18 0a0000"), options)
    #expect(update.remarks.map(\.fault) == [.disableFamily(.ipv6Unicast)])
    #expect(update.announcements.map(\.family) == [.ipv4Unicast])
  }

  @Test("IPv4 destinations and MP_REACH_NLRI in one UPDATE each have their own next hop (RFC 7606, section 5.1)")
  func mixed() throws {
    let options = DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast])
    let update = try decodeUpdate(updateFrame(attributes: good + reach6, nlri: "18 0a0000"), options)
    #expect(update.announcements.map(\.attributes.nextHop.description) == ["192.0.2.2", "2001:db8::2"])
  }
}

@Suite("RFC 6793: speakers of two-octet AS numbers")
struct TwoOctetTests {
  @Test("AS_TRANS goes into AS_PATH and AGGREGATOR, the real numbers beside, and come back")
  func roundTrip() throws {
    var attributes = PathAttributes(nextHop: .v4(IPv4Address(192, 0, 2, 2)), asPath: ASPath([65001, 4_200_000_001, 65002]))
    attributes.localPreference = 100
    attributes.aggregator = Aggregator(asNumber: 4_200_000_001, address: IPv4Address(10, 0, 0, 1))
    let update = Update(announcements: [.init(.ipv4Unicast, attributes, [prefix("10.0.0.0/8")])])
    let wire = Message.update(update).encoded(options: EncodeOptions(fourOctetAS: false))
    #expect(try decodeUpdate(wire, DecodeOptions(fourOctetAS: false)) == update)
    // What a speaker that knows nothing of AS4 attributes reads.
    #expect(Array(wire[27..<38]) == octets("40 02 08 0203 fde9 5ba0 fdea"))
  }

  @Test("No AS4 attributes are written where two octets suffice")
  func plain() {
    var attributes = PathAttributes(nextHop: .v4(IPv4Address(192, 0, 2, 2)), asPath: ASPath([65001]))
    attributes.localPreference = 100
    let update = Update(announcements: [.init(.ipv4Unicast, attributes, [prefix("10.0.0.0/8")])])
    #expect(
      Message.update(update).encoded(options: EncodeOptions(fourOctetAS: false))
        == updateFrame(attributes: "40010100 400204 0201 fde9 400304 c0000202 400504 00000064", nlri: "08 0a"))
  }

  /// Decodes the two paths as they come from a two-octet speaker.
  func merged(_ path: String, _ as4: String, aggregator: String = "") throws -> PathAttributes {
    func attribute(_ code: String, _ value: String) -> String {
      let count = String(octets(value).count, radix: 16)
      return code + (count.count == 1 ? "0" : "") + count + value
    }
    let wire = updateFrame(
      attributes: "40010100" + attribute("4002", path) + "400304c0000202" + aggregator + attribute("c011", as4), nlri: "08 0a")
    let update = try decodeUpdate(wire, DecodeOptions(isExternal: true, fourOctetAS: false))
    return try #require(update.announcements.first).attributes
  }

  @Test("AS4_PATH replaces the tail that it knows (section 4.2.3)")
  func merge() throws {
    // 65001 is an old speaker, which has prepended itself to AS_PATH only.
    #expect(try merged("0203 fde9 5ba0 5ba0", "0202 fa56ea01 fa56ea02").asPath == ASPath([65001, 4_200_000_001, 4_200_000_002]))
    #expect(try merged("0201 5ba0", "0201 fa56ea01").asPath == ASPath([4_200_000_001]))
  }
  @Test("An AS4_PATH longer than AS_PATH is ignored")
  func tooLong() throws {
    #expect(try merged("0201 fde9", "0202 fa56ea01 fa56ea02").asPath == ASPath([65001]))
  }
  @Test("Confederation segments of AS4_PATH are dropped")
  func confederation() throws {
    #expect(try merged("0202 fde9 5ba0", "0301 0000fde8 0201 fa56ea01").asPath == ASPath([65001, 4_200_000_001]))
  }
  @Test("An AGGREGATOR with a real number says that the AS4 attributes are stale")
  func staleAggregator() throws {
    let attributes = try merged("0201 5ba0", "0201 fa56ea01", aggregator: "c00706 fde90a000001 c01208 fa56ea010a000001")
    #expect(attributes.asPath == ASPath([.transition]))
    #expect(attributes.aggregator?.asNumber == 65001)
  }
}

@Suite("RFC 4271, section 5.1.2: AS paths")
struct ASPathTests {
  @Test("Prepending fills segments of at most 255 numbers")
  func prepend() {
    var path = ASPath([65001])
    path.prepend(65002, count: 300)
    #expect(path.segments.map(\.numbers.count) == [46, 255])
    #expect(path.length == 301 && path.neighborAS == 65002 && path.originAS == 65001)
    #expect(ASPath().prepending(65001) == ASPath([65001]))
    var set = ASPath(segments: [.init(.set, [1, 2])])
    set.prepend(3)
    #expect(set.description == "3 {1 2}")
  }
  @Test("Sets count one and confederations nothing")
  func length() {
    let path = ASPath(segments: [.init(.confederationSequence, [64512, 64513]), .init(.sequence, [1, 2]), .init(.set, [3, 4, 5])])
    #expect(path.length == 3)
    #expect(path.neighborAS == 1 && path.originAS == nil)
    #expect(path.withoutConfederation().description == "1 2 {3 4 5}")
    #expect(path.contains(64513) && path.occurrences(of: 9) == 0)
    #expect(ASPath(segments: [.init(.set, [3])]).neighborAS == nil)
  }
}

@Suite("Hostile UPDATE messages")
struct HostileUpdateTests {
  private func attribute(_ flags: UInt8, _ code: UInt8, _ value: [UInt8]) -> [UInt8] {
    [flags | 0x10, code, UInt8(value.count >> 8), UInt8(value.count & 255)] + value
  }
  private func update(_ attributes: [UInt8], _ nlri: [UInt8] = [24, 10, 0, 1]) -> [UInt8] {
    frame(.update, [0, 0, UInt8(attributes.count >> 8), UInt8(attributes.count & 255)] + attributes + nlri)
  }
  private let origin: [UInt8] = [0x40, 1, 1, 0]
  private let nextHop: [UInt8] = [0x40, 3, 4, 192, 0, 2, 9]

  @Test("A path of two-octet numbers that is too long in four octets is used, and told to nobody whose form cannot hold it (RFC 8654)")
  func longPath() throws {
    let path = (0..<120).flatMap { _ in [2, 255] + [UInt8](repeating: 1, count: 510) } as [UInt8]
    let options = DecodeOptions(isExternal: true, fourOctetAS: false, extendedMessages: true)
    let read = try decodeUpdate(update(origin + attribute(0x40, 2, path) + nextHop), options)
    let announcement = try #require(read.announcements.first)
    #expect(announcement.attributes.asPath.length == 120 * 255)
    for fourOctetAS in [true, false] {
      var octets: [UInt8] = []
      let encoded = EncodedAttributes(
        announcement.attributes, family: .ipv4Unicast, options: EncodeOptions(fourOctetAS: fourOctetAS, extendedMessages: true))
      #expect(UpdateEncoder.announce(announcement.destinations, with: encoded, into: &octets) == !fourOctetAS)
      #expect(octets.isEmpty == fourOctetAS)
    }
  }

  @Test("Thousands of repeated attributes make a few remarks")
  func repetitions() throws {
    let repeated = (0..<1200).flatMap { _ in [0x80, 99, 0] as [UInt8] }
    let attributes = origin + attribute(0x40, 2, [2, 1, 0, 0, 0xfd, 0xe9]) + nextHop + repeated
    let read = try decodeUpdate(update(attributes), DecodeOptions(isExternal: true))
    #expect(read.announcements.count == 1 && (1...10).contains(read.remarks.count))
  }

  @Test("A fault beside destinations of a family that was not agreed on is no reason to end the session (RFC 7606, section 5.2)")
  func foreignFamily() throws {
    let reach: [UInt8] = [0, 1, 4, 4, 192, 0, 2, 9, 0, 24, 0, 0, 1]
    let badOrigin: [UInt8] = [0x40, 1, 1, 7]
    let read = try decodeUpdate(update(attribute(0x80, 14, reach) + badOrigin, []), DecodeOptions(isExternal: true))
    #expect(read.announcements.isEmpty && read.withdrawals.isEmpty && read.remarks.map(\.fault) == [.treatAsWithdraw])
    // Without any destinations the fault may have swallowed them.
    #expect(throws: MessageFailure.self) { try decodeUpdate(update(badOrigin, []), DecodeOptions(isExternal: true)) }
  }
}
