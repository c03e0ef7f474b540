/// BGP messages: framing, round trips, and reactions to faults.
import Addresses
import BGPMessages
import BGPSessions

private func message(_ type: UInt8, _ body: [UInt8]) -> [UInt8] {
  let length = body.count + MessageLength.header
  return [UInt8](repeating: 0xff, count: 16) + [UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length), type] + body
}

/// Two octets choose the session that a message is read in.
func decodeOptions(_ choices: inout Choices) -> DecodeOptions {
  let first = choices.octet()
  let second = choices.octet()
  var options = DecodeOptions(
    isExternal: first & 1 != 0, fourOctetAS: first & 2 == 0, families: [.ipv4Unicast, .ipv6Unicast], extendedMessages: first & 4 != 0,
    localAddresses: [.v4(IPv4Address(192, 0, 2, 1))], isConfederationMember: first & 8 != 0, disablesFamilies: first & 16 != 0)
  if first & 32 != 0 { options.addPath = options.families }
  if first & 64 != 0 { options.extendedNextHop = [.ipv4Unicast] }
  if first & 128 != 0 { options.families = [.ipv4Unicast] }
  if second & 1 != 0 { options.firstAS = 65001 }
  if second & 2 != 0 { options.families = [.ipv6Unicast] }
  return options
}

// MARK: The stream

/// The third octet is the size of the pieces in which the rest arrives. Cutting may not matter.
func checkStream(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let options = decodeOptions(&choices)
  let size = max(1, Int(choices.octet()))
  let stream = choices.rest()
  let whole = frames(stream, size: max(1, stream.count), options)
  let pieces = frames(stream, size: size, options)
  try claim(whole.messages == pieces.messages, "whole: \(whole.messages)\nin pieces of \(size): \(pieces.messages)")
  let failures = "whole: \(String(describing: whole.failure))\nin pieces: \(String(describing: pieces.failure))"
  try claim(whole.failure == pieces.failure, failures)
  try claim(whole.failure != nil || whole.pending == pieces.pending, "\(whole.pending) and \(pieces.pending) octets wait")
  try claim(whole.failure != nil || whole.pending < options.messageLengthMax, "\(whole.pending) octets wait and are no message")
}

private func frames(
  _ stream: [UInt8], size: Int, _ options: DecodeOptions
) -> (messages: [Message], failure: MessageFailure?, pending: Int) {
  var framer = MessageFramer()
  var messages: [Message] = []
  for start in stride(from: 0, to: stream.count, by: size) {
    framer.append(stream[start..<min(start + size, stream.count)])
    do throws(MessageFailure) {
      while let message = try framer.next(options: options) { messages.append(message) }
    } catch {
      return (messages, error, framer.pendingCount)
    }
  }
  return (messages, nil, framer.pendingCount)
}

// MARK: OPEN and NOTIFICATION

func checkOpen(_ octets: [UInt8]) throws(Violation) {
  guard octets.count <= MessageLength.standardMax - MessageLength.header else { return }
  let decoded = Result { () throws(MessageFailure) in try Message.decode(message(1, octets)) }
  switch decoded {
  case .failure(let failure):
    // RFC 4271, section 6.2: what is wrong with an OPEN is told as an error of the OPEN, or of the header.
    try claim([NotificationCode.open, NotificationCode.messageHeader].contains(failure.notification.code), "an OPEN fails with \(failure)")
  case .success(.open(let open)):
    let again = try? Message.decode(Message.open(open).encoded())
    try claim(again == .open(open), "\(open) reads back as \(String(describing: again))")
    try claim(open.asNumber.rawValue != 0 && open.routerID.rawValue != 0, "an OPEN of nobody: \(open)")
    try negotiate(open)
  case .success(let other): throw Violation("an OPEN is \(other)")
  }
}

/// What is agreed is never more than either side offered.
private func negotiate(_ open: Open) throws(Violation) {
  var configuration = SessionConfiguration(localAS: 64512, peerAS: nil, routerID: RouterID(rawValue: 0x0a00_0001))
  configuration.families = [.ipv4Unicast, .ipv6Unicast]
  configuration.addPathReceive = [.ipv4Unicast]
  configuration.extendedNextHop = true
  var session = PeerSession(configuration, at: Instant(nanoseconds: 0))
  _ = session.receive(.start, at: Instant(nanoseconds: 0))
  let id = ConnectionID(1)
  _ = session.receive(.connected(id, .incoming, local: .v4(.loopback), peer: .v4(.loopback)), at: Instant(nanoseconds: 0))
  _ = session.receive(.message(id, .open(open), octets: 29), at: Instant(nanoseconds: 0))
  _ = session.receive(.message(id, .keepalive, octets: 19), at: Instant(nanoseconds: 0))
  guard let terms = session.negotiated else { return }
  try claim(!terms.families.isEmpty && terms.families.isSubset(of: configuration.families), "families \(terms.families)")
  try claim(terms.addPathReceive.isSubset(of: configuration.addPathReceive) && terms.addPathSend.isEmpty, "path identifiers by surprise")
  try claim(terms.holdTime == .zero || (terms.holdTime >= .seconds(3) && terms.holdTime <= .seconds(90)), "hold time \(terms.holdTime)")
  try claim(terms.holdTime == .zero || terms.keepaliveInterval >= .seconds(1), "a KEEPALIVE every \(terms.keepaliveInterval)")
}

/// The first octet chooses between NOTIFICATION and ROUTE-REFRESH.
func checkNotification(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let isRefresh = choices.flag()
  let body = choices.rest()
  guard body.count <= MessageLength.standardMax - MessageLength.header else { return }
  guard let decoded = try? Message.decode(message(isRefresh ? 5 : 3, body)) else { return }
  switch decoded {
  case .notification(let notification):
    let again = try? Message.decode(decoded.encoded())
    try claim(again == decoded, "\(notification) reads back as \(String(describing: again))")
    // It goes to logs and terminals.
    let text = notification.description
    let isClean = !text.unicodeScalars.contains { $0.properties.generalCategory == .control }
    try claim(isClean, "control characters in \(text.debugDescription)")
  case .routeRefresh(let refresh):
    guard refresh.kind != nil else { return }
    let again = try? Message.decode(decoded.encoded())
    try claim(again == decoded, "\(refresh) reads back as \(String(describing: again))")
  default: throw Violation("a NOTIFICATION is \(decoded)")
  }
}

// MARK: UPDATE

func checkUpdate(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let options = decodeOptions(&choices)
  let body = choices.rest()
  guard body.count >= 4, body.count <= options.messageLengthMax - MessageLength.header else { return }
  let naive = NaiveUpdate(body, options)
  let decoded = Result { () throws(MessageFailure) in try Message.decode(message(2, body), options: options) }
  switch decoded {
  case .failure(let failure):
    try claim(naive.mayReset, "a reset where RFC 7606 wants less: \(failure)")
    try claim(failure.notification.code == NotificationCode.update, "an UPDATE fails with \(failure)")
  case .success(.update(let update)):
    try claim(!naive.mustReset, "accepted what leaves nothing to trust: \(update)")
    try checkMeaning(of: update, naive, options)
    for fourOctetAS in [true, false] {
      for isExtended in [false, true] {
        let encode = EncodeOptions(fourOctetAS: fourOctetAS, addPath: options.addPath, extendedMessages: isExtended)
        try checkEncoding(of: update, options, encode)
      }
    }
  case .success(let other): throw Violation("an UPDATE is \(other)")
  }
}

private func checkMeaning(of update: Update, _ naive: NaiveUpdate, _ options: DecodeOptions) throws(Violation) {
  let withdrawn = update.withdrawals.reduce(0) { $0 + $1.destinations.count }
  let announced = update.announcements.reduce(0) { $0 + $1.destinations.count }
  let isWithdrawn = update.remarks.contains { $0.fault == .treatAsWithdraw }
  let isDisabled = update.remarks.contains { if case .disableFamily = $0.fault { true } else { false } }
  try claim(!isWithdrawn || announced == 0, "routes are used although they count as withdrawn: \(update)")
  if !isDisabled {
    // Nothing is lost: every destination is announced or withdrawn.
    let count = naive.withdrawn + naive.reachable
    try claim(withdrawn + announced == count, "\(naive.withdrawn) + \(naive.reachable) destinations became \(update)")
    try claim(isWithdrawn || announced == naive.reachable, "good routes are withdrawn: \(update)")
  }
  try claim(update.remarks.count <= 300, "\(update.remarks.count) remarks for the log")
  for announcement in update.announcements {
    let attributes = announcement.attributes
    try claim(options.families.contains(announcement.family), "a family that was not agreed on: \(announcement.family)")
    try claim(!attributes.asPath.contains(0), "AS 0 in \(attributes.asPath)")
    try claim(options.isExternal || attributes.localPreference != nil, "an internal route without preference")
    let isInternal = attributes.localPreference != nil || !attributes.clusterList.isEmpty || attributes.originatorID != nil
    try claim(!options.isExternal || !isInternal, "what belongs inside an AS, from an external peer: \(attributes)")
    let isFirst = options.firstAS == nil || attributes.asPath.neighborAS == options.firstAS
    try claim(isFirst, "the path \(attributes.asPath) of another neighbour")
    let hop = attributes.nextHop.address
    if case .v4 = hop {
      try claim(!hop.isUnspecified && !hop.isMulticast && !hop.isLoopback && !options.localAddresses.contains(hop), "next hop \(hop)")
    }
  }
}

private func checkEncoding(of update: Update, _ decode: DecodeOptions, _ encode: EncodeOptions) throws(Violation) {
  var decode = decode
  decode.fourOctetAS = encode.fourOctetAS
  decode.extendedMessages = encode.extendedMessages
  for announcement in update.announcements {
    let encoded = EncodedAttributes(announcement.attributes, family: announcement.family, options: encode)
    var octets: [UInt8] = []
    // Attributes of a long message need not fit into a short one.
    guard UpdateEncoder.announce(announcement.destinations, with: encoded, into: &octets) else { continue }
    let (messages, failure, pending) = frames(octets, size: octets.count, decode)
    try claim(failure == nil && pending == 0, "cannot read what it wrote: \(String(describing: failure))")
    var destinations: [NLRI] = []
    for message in messages {
      guard case .update(let again) = message, let part = again.announcements.first, again.announcements.count == 1,
        again.withdrawals.isEmpty
      else { throw Violation("\(announcement) reads back as \(message)") }
      try claim(part.family == announcement.family, "\(part.family) for \(announcement.family)")
      try claim(
        isSame(announcement.attributes, part.attributes, encode),
        "\(announcement.attributes)\nreads back as\n\(part.attributes)\nwith \(encode)")
      destinations += part.destinations
    }
    try claim(destinations == announcement.destinations, "\(announcement.destinations) read back as \(destinations)")
  }
  for withdrawal in update.withdrawals {
    var octets: [UInt8] = []
    UpdateEncoder.withdraw(withdrawal.destinations, family: withdrawal.family, options: encode, into: &octets)
    let (messages, failure, pending) = frames(octets, size: max(1, octets.count), decode)
    try claim(failure == nil && pending == 0, "cannot read its withdrawal: \(String(describing: failure))")
    let destinations = messages.flatMap { message in
      if case .update(let again) = message { again.withdrawals.flatMap(\.destinations) } else { [] as [NLRI] }
    }
    try claim(destinations == withdrawal.destinations, "\(withdrawal.destinations) are withdrawn as \(destinations)")
  }
}

/// True if the other side read what was meant. Towards two-octet speakers a path travels twice (RFC 6793, section 4.2.2): sequences may
/// come back joined, and confederation segments have no form for numbers above 65535.
private func isSame(_ sent: PathAttributes, _ read: PathAttributes, _ encode: EncodeOptions) -> Bool {
  if encode.fourOctetAS { return sent == read }
  var other = read
  other.asPath = sent.asPath
  guard other == sent else { return false }
  let isLossy = sent.asPath.hasConfederationSegments && sent.asPath.segments.contains { $0.numbers.contains { !$0.fitsTwoOctets } }
  return isLossy || sent.asPath.description == read.asPath.description
}

/// A second reading of an UPDATE by RFC 7606 that asks only: how many destinations, and may the session end?
private struct NaiveUpdate {
  var mayReset = false
  var mustReset = false
  var withdrawn = 0
  var reachable = 0

  init(_ body: [UInt8], _ options: DecodeOptions) {
    if !read(body, options) { (mayReset, mustReset) = (true, true) }
  }

  /// False if there is nothing left to trust.
  private mutating func read(_ body: [UInt8], _ options: DecodeOptions) -> Bool {
    func number(_ at: Int) -> Int { Int(body[at]) << 8 | Int(body[at + 1]) }
    let attributesAt = 2 + number(0)
    guard attributesAt + 2 <= body.count else { return false }
    let end = attributesAt + 2 + number(attributesAt)
    guard end <= body.count else { return false }
    let addPath = options.addPath.contains(.ipv4Unicast)
    guard let gone = Self.count(body[2..<attributesAt], 32, addPath), let there = Self.count(body[end...], 32, addPath) else {
      return false
    }
    if options.families.contains(.ipv4Unicast) { (withdrawn, reachable) = (gone, there) }
    // Destinations in any family, also those that we pass over.
    var hasDestinations = there > 0
    var seen: Set<UInt8> = []
    var at = attributesAt + 2
    var isFaulty = false
    while at < end {
      guard end - at >= 3 else { break }
      let flags = body[at]
      let code = body[at + 1]
      let isLong = flags & 0x10 != 0
      guard !isLong || end - at >= 4 else { break }
      let length = isLong ? number(at + 2) : Int(body[at + 2])
      at += isLong ? 4 : 3
      guard end - at >= length else { break }
      let value = Array(body[at..<(at + length)])
      at += length
      let isMultiprotocol = code == 14 || code == 15
      guard seen.insert(code).inserted else {
        if isMultiprotocol { return false }
        continue
      }
      let known: Set<UInt8> = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 35]
      if !known.contains(code), flags & 0x80 == 0 { return false }
      guard isMultiprotocol else { continue }
      guard value.count >= (code == 14 ? 5 : 3) else {
        // Too short to name its family, so that there is no family to turn off.
        return false
      }
      let family = AddressFamily(afi: UInt16(value[0]) << 8 | UInt16(value[1]), safi: value[2])
      guard options.families.contains(family), let unicast = family.unicast else {
        if code == 14 { hasDestinations = hasDestinations || value.count > 5 + Int(value[3]) }
        continue
      }
      var start = 3
      if code == 14 {
        let hop = Int(value[3])
        let isV6Hop = hop == 16 || hop == 32
        let isRight = unicast == .v6 ? isV6Hop : hop == 4 || (isV6Hop && options.extendedNextHop.contains(family))
        guard isRight, value.count >= 5 + hop else { isFaulty = true; continue }
        start = 5 + hop
      }
      guard let count = Self.count(value[start...], unicast.bits, options.addPath.contains(family)) else { isFaulty = true; continue }
      if code == 14 {
        reachable += count
        hasDestinations = hasDestinations || count > 0
      } else {
        withdrawn += count
      }
    }
    // A broken multiprotocol attribute costs the family where that is configured, the session otherwise.
    if isFaulty { mayReset = true }
    // RFC 7606, section 5.2: without reachable destinations, "treat as withdraw" has nothing to treat.
    if !hasDestinations { mayReset = true }
    return true
  }

  /// How many prefixes there are, or nil if the octets are none.
  private static func count(_ octets: ArraySlice<UInt8>, _ bits: Int, _ addPath: Bool) -> Int? {
    var rest = octets
    var count = 0
    while !rest.isEmpty {
      if addPath {
        guard rest.count > 4 else { return nil }
        rest = rest.dropFirst(4)
      }
      let length = Int(rest.removeFirst())
      guard length <= bits, rest.count >= (length + 7) / 8 else { return nil }
      rest = rest.dropFirst((length + 7) / 8)
      count += 1
    }
    return count
  }
}
