/// The cutting of the stream, packing, round trips and hostile octets.
import Addresses
import BGPMessages
import Testing

@Suite("RFC 4271, section 6.1: message headers")
struct FramerTests {
  func failure(_ octets: [UInt8], _ options: DecodeOptions = DecodeOptions()) -> Notification? {
    var framer = MessageFramer()
    framer.append(octets)
    do throws(MessageFailure) {
      _ = try framer.next(options: options)
      return nil
    } catch { return error.notification }
  }
  func header(_ length: UInt16, _ type: UInt8) -> [UInt8] {
    [UInt8](repeating: 0xff, count: 16) + [UInt8(length >> 8), UInt8(length & 0xff), type]
  }

  @Test("Messages arrive in pieces of any size", arguments: [1, 2, 7, 18, 19, 20, 64, 1000])
  func pieces(size: Int) throws {
    let messages: [Message] = [
      .keepalive, .routeRefresh(RouteRefresh(.ipv4Unicast)), .notification(.cease(.administrativeReset, message: "x")),
      .update(Update(withdrawals: [.init(.ipv4Unicast, (0..<500).map { prefix("10.\($0 >> 8).\($0 & 255).0/24") })])),
      .keepalive,
    ]
    let stream = messages.flatMap { $0.encoded() }
    var framer = MessageFramer()
    var read: [Message] = []
    for start in stride(from: 0, to: stream.count, by: size) {
      framer.append(stream[start..<min(start + size, stream.count)])
      while let message = try framer.next(options: DecodeOptions()) { read.append(message) }
    }
    #expect(read == messages)
    #expect(framer.isEmpty && framer.lastLength == 19)
  }

  @Test("A header is judged before its body comes")
  func early() {
    #expect(failure([0] + header(19, 4).dropFirst()) == .connectionNotSynchronized)
    #expect(failure(header(18, 4)) == .badMessageLength(18))
    #expect(failure(header(4097, 2)) == .badMessageLength(4097))
    #expect(failure(header(19, 9)) == .badMessageType(9))
    #expect(failure(header(19, 0)) == .badMessageType(0))
    #expect(failure(Array(header(19, 4).dropLast())) == nil)
  }

  @Test("Each type has its least length", arguments: [(1, 28), (2, 22), (3, 20), (4, 20), (5, 22)] as [(UInt8, UInt16)])
  func typeLengths(type: UInt8, length: UInt16) {
    #expect(failure(header(length, type)) == .badMessageLength(length))
  }

  @Test("Extended messages are taken where agreed on, but not for OPEN and KEEPALIVE (RFC 8654)")
  func extended() {
    let options = DecodeOptions(extendedMessages: true)
    #expect(failure(header(65535, 2), options) == nil)
    #expect(failure(header(4097, 1), options) == .badMessageLength(4097))
    #expect(failure(header(4097, 4), options) == .badMessageLength(4097))
  }
}

@Suite("RFC 4271, section 6.2: OPEN errors")
struct OpenErrorTests {
  @Test("A bad OPEN is answered with its subcode", arguments: [
    ("version 3", "03 fde9 005a 0a000001 00", Notification.unsupportedVersion),
    ("AS 0", "04 0000 005a 0a000001 00", .badPeerAS),
    ("four-octet AS 0", "04 fde9 005a 0a000001 08 0206 4104 00000000", .badPeerAS),
    ("identifier 0", "04 fde9 005a 00000000 00", .badIdentifier),
    ("hold time 1", "04 fde9 0001 0a000001 00", .unacceptableHoldTime),
    ("hold time 2", "04 fde9 0002 0a000001 00", .unacceptableHoldTime),
    ("parameters cut short", "04 fde9 005a 0a000001 04 0206", .openMalformed),
    ("parameters too long", "04 fde9 005a 0a000001 00 00", .openMalformed),
    ("authentication", "04 fde9 005a 0a000001 02 0100", .unsupportedOptionalParameter),
    ("capability cut short", "04 fde9 005a 0a000001 04 0202 4104", .openMalformed),
    ("capability of a wrong length", "04 fde9 005a 0a000001 07 0205 0103 000100", .openMalformed),
    ("route refresh with a value", "04 fde9 005a 0a000001 05 0203 020100", .openMalformed),
  ])
  func errors(name: String, body: String, expected: Notification) {
    #expect(throws: MessageFailure.self, "\(name)") { try Message.decode(frame(.open, octets(body))) }
    #expect { try Message.decode(frame(.open, octets(body))) } throws: { ($0 as? MessageFailure)?.notification == expected }
  }
  @Test("An OPEN without capabilities, and one with several parameters, are fine")
  func sound() throws {
    guard case .open(let bare) = try Message.decode(frame(.open, octets("04 fde9 0000 0a000001 00"))) else { return #expect(Bool(false)) }
    #expect(bare.asNumber == 65001 && bare.capabilities.isEmpty && bare.holdTimeSeconds == 0)
    let two = octets("04 fde9 005a 0a000001 0c 0202 0200 0206 0104 00010001")
    let expected = Open(
      asNumber: 65001, holdTimeSeconds: 90, routerID: RouterID("10.0.0.1")!, capabilities: [.routeRefresh, .multiprotocol(.ipv4Unicast)])
    #expect(try Message.decode(frame(.open, two)) == .open(expected))
  }
}

/// Random values of every message, valid ones only.
struct MessageSource {
  var random: SplitMix
  mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
  mutating func chance() -> Bool { Bool.random(using: &random) }
  mutating func word() -> UInt32 { UInt32.random(in: 1...(.max), using: &random) }

  mutating func prefixes(_ family: AddressFamily, _ count: Int, addPath: Bool) -> [NLRI] {
    (0..<count).map { _ in
      let pathID = addPath ? word() : 0
      if family == .ipv4Unicast {
        return NLRI(IPv4Prefix(IPv4Address(rawValue: word()), length: UInt8(number(0...32))), pathID: pathID)
      }
      return NLRI(
        IPv6Prefix(IPv6Address(high: random.next(), low: random.next()), length: UInt8(number(0...128))), pathID: pathID)
    }
  }
  mutating func asNumber(fourOctet: Bool) -> ASNumber { ASNumber(fourOctet ? word() : word() % 65535 + 1) }
  mutating func path(fourOctet: Bool) -> ASPath {
    ASPath(segments: (0..<number(0...3)).map { index in
      .init(index == 0 || chance() ? .sequence : .set, (0..<number(1...300)).map { _ in asNumber(fourOctet: fourOctet) })
    })
  }
  mutating func attributes(_ family: AddressFamily, fourOctet: Bool) -> PathAttributes {
    let linkLocal = chance() ? IPv6Address(high: 0xfe80 << 48, low: random.next()) : nil
    var result = PathAttributes(
      nextHop: family == .ipv4Unicast
        ? .v4(IPv4Address(192, 0, 2, UInt8(number(1...200))))
        : .v6(IPv6Address(high: 0x2001_0db8 << 32, low: random.next()), linkLocal: linkLocal),
      asPath: path(fourOctet: fourOctet), origin: Origin(rawValue: UInt8(number(0...2)))!)
    result.localPreference = word()
    if chance() { result.multiExitDiscriminator = word() }
    result.isAtomicAggregate = chance()
    if chance() { result.aggregator = Aggregator(asNumber: asNumber(fourOctet: fourOctet), address: IPv4Address(rawValue: word())) }
    result.communities = (0..<number(0...40)).map { _ in Community(rawValue: word()) }
    result.extendedCommunities = (0..<number(0...40)).map { _ in ExtendedCommunity(rawValue: random.next()) }
    result.largeCommunities = Set((0..<number(0...30)).map { _ in LargeCommunity(word(), word(), word()) }).sorted()
    if chance() { result.originatorID = RouterID(rawValue: word()) }
    result.clusterList = (0..<number(0...4)).map { _ in RouterID(rawValue: word()) }
    if chance() { result.onlyToCustomer = ASNumber(word()) }
    if chance() {
      result.unknown = [12, 20, 33, 99, 255].map { UnknownAttribute(code: $0, octets: (0..<number(0...20)).map { UInt8($0) }) }
    }
    if !result.communities.isEmpty, chance() { result.partial.insert(.communities) }
    if result.aggregator != nil, chance() { result.partial.insert(.aggregator) }
    if !result.largeCommunities.isEmpty, chance() { result.partial.insert(.largeCommunities) }
    return result
  }
}

@Suite("Encoding and decoding agree")
struct RoundTripTests {
  @Test("Random updates survive the wire, packed", arguments: 0..<60)
  func updates(round: Int) throws {
    let seed = UInt64(round) &* 7919 &+ 4211
    var source = MessageSource(random: SplitMix(seed: seed))
    let family: AddressFamily = round % 2 == 0 ? .ipv4Unicast : .ipv6Unicast
    let addPath: Set<AddressFamily> = round % 3 == 0 ? [family] : []
    let fourOctet = round % 5 != 0
    let extended = round % 4 == 0
    let encode = EncodeOptions(fourOctetAS: fourOctet, addPath: addPath, extendedMessages: extended)
    let decode = DecodeOptions(
      fourOctetAS: fourOctet, families: [.ipv4Unicast, .ipv6Unicast], addPath: addPath, extendedMessages: extended)
    let attributes = source.attributes(family, fourOctet: fourOctet)
    let prefixes = source.prefixes(family, source.number(1...4000), addPath: !addPath.isEmpty)
    let gone = source.prefixes(family, source.number(1...4000), addPath: !addPath.isEmpty)
    let encoded = EncodedAttributes(attributes, family: family, options: encode)
    var wire: [UInt8] = []
    UpdateEncoder.withdraw(gone, family: family, options: encode, into: &wire)
    guard UpdateEncoder.announce(prefixes, with: encoded, into: &wire) else {
      // Only the shorter limit can be too short, and then the attributes alone come close to it.
      var long: [UInt8] = []
      let options = EncodeOptions(fourOctetAS: fourOctet, extendedMessages: true)
      UpdateEncoder.announce(prefixes.prefix(1), with: EncodedAttributes(attributes, family: family, options: options), into: &long)
      return #expect(!extended && long.count > 4096 - 21, "seed \(seed)")
    }
    var framer = MessageFramer()
    framer.append(wire)
    var announced: [NLRI] = []
    var withdrawn: [NLRI] = []
    var sizes: [Int] = []
    while let message = try framer.next(options: decode) {
      guard case .update(let update) = message else { return #expect(Bool(false)) }
      #expect(update.remarks.isEmpty, "seed \(seed): \(update.remarks)")
      for item in update.withdrawals { withdrawn += item.destinations }
      for item in update.announcements {
        #expect(item.attributes == attributes && item.family == family, "seed \(seed)")
        announced += item.destinations
        sizes.append(framer.lastLength)
      }
    }
    #expect(announced == prefixes && withdrawn == gone, "seed \(seed)")
    // Filled to the brim: no message but the last has room for another destination.
    #expect(sizes.dropLast().allSatisfy { $0 > encode.messageLengthMax - 21 }, "seed \(seed): \(sizes)")
  }

  @Test("Attributes that leave no room for a destination are refused, and nothing is written")
  func tooMany() {
    var attributes = PathAttributes(nextHop: .v4(IPv4Address(192, 0, 2, 2)))
    attributes.communities = (0..<1100).map { Community(rawValue: $0) }
    var wire: [UInt8] = [1]
    let encoded = EncodedAttributes(attributes, family: .ipv4Unicast, options: EncodeOptions())
    #expect(!UpdateEncoder.announce([prefix("10.0.0.0/8")], with: encoded, into: &wire) && wire == [1])
    let extended = EncodedAttributes(attributes, family: .ipv4Unicast, options: EncodeOptions(extendedMessages: true))
    #expect(UpdateEncoder.announce([prefix("10.0.0.0/8")], with: extended, into: &wire))
  }
}

@Suite("Hostile octets")
struct HostileTests {
  @Test("Mutated messages are read or refused, and what is read can be written again", arguments: 0..<8)
  func mutations(round: Int) {
    let seed = UInt64(round) &+ 20_271
    var source = MessageSource(random: SplitMix(seed: seed))
    var samples: [[UInt8]] = [
      Message.open(Open(asNumber: 4_200_000_001, holdTimeSeconds: 90, routerID: RouterID(rawValue: 7), capabilities: [
        .multiprotocol(.ipv6Unicast), .fourOctetAS(4_200_000_001), .addPath([.init(.ipv4Unicast, receives: true, sends: true)]),
        .gracefulRestart(.init(restartTimeSeconds: 120, families: [.init(.ipv4Unicast, isForwarding: true)])),
      ])).encoded(),
      Message.notification(.cease(.administrativeShutdown, message: "bye")).encoded(),
      Message.routeRefresh(RouteRefresh(.ipv6Unicast)).encoded(),
    ]
    for family in [AddressFamily.ipv4Unicast, .ipv6Unicast] {
      for fourOctet in [true, false] {
        let attributes = source.attributes(family, fourOctet: fourOctet)
        var wire: [UInt8] = []
        UpdateEncoder.announce(
          source.prefixes(family, 5, addPath: false),
          with: EncodedAttributes(
            attributes, family: family, options: EncodeOptions(fourOctetAS: fourOctet, extendedMessages: true)), into: &wire)
        samples.append(wire)
      }
    }
    for _ in 0..<1500 {
      var wire = samples[source.number(0...(samples.count - 1))]
      for _ in 0..<source.number(1...6) {
        switch source.number(0...3) {
        case 0: wire[source.number(19...(wire.count - 1))] = UInt8(source.number(0...255))
        case 1: wire[source.number(19...(wire.count - 1))] ^= 1 << UInt8(source.number(0...7))
        case 2: wire.insert(UInt8(source.number(0...255)), at: source.number(19...wire.count))
        default: if wire.count > 25 { wire.remove(at: source.number(19...(wire.count - 1))) }
        }
      }
      // The length in the header stays true, so that the mutations reach the decoders behind it.
      wire[16] = UInt8(wire.count >> 8 & 0xff)
      wire[17] = UInt8(wire.count & 0xff)
      let options = DecodeOptions(
        isExternal: source.chance(), fourOctetAS: source.chance(), families: [.ipv4Unicast, .ipv6Unicast],
        addPath: source.chance() ? [.ipv4Unicast] : [], extendedNextHop: [.ipv4Unicast], extendedMessages: true,
        disablesFamilies: source.chance())
      guard let message = try? Message.decode(wire, options: options) else { continue }
      let again = message.encoded(options: EncodeOptions(addPath: options.addPath, extendedMessages: true))
      #expect(again.isEmpty || again.count >= 19, "seed \(seed)")
    }
  }

  @Test("Random octets never get past the header by luck and never trap")
  func noise() {
    var random = SplitMix(seed: 99)
    for _ in 0..<3000 {
      var wire = (0..<Int.random(in: 19...120, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      for index in 0..<16 { wire[index] = 0xff }
      wire[16] = 0
      wire[17] = UInt8(wire.count)
      wire[18] = UInt8.random(in: 1...5, using: &random)
      _ = try? Message.decode(wire, options: DecodeOptions(families: [.ipv4Unicast, .ipv6Unicast]))
    }
  }
}
