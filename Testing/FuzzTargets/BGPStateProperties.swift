/// The pure machines behind the messages: one session, and the RIBs. Octets choose what happens, in any order, sensible or not.
import Addresses
import BGPMessages
import BGPRoutes
import BGPSessions

// MARK: One session

/// The runner's half: what is open, armed and promised, as the actions say it.
private struct Runner {
  var session: PeerSession
  var now = Instant(nanoseconds: 0)
  var nextConnection: UInt64 = 1
  var open: [ConnectionID] = []
  var timers: [PeerSession.Timer: Instant] = [:]
  var isConnecting = false
  var established: ConnectionID?
  let isPassive: Bool

  mutating func receive(_ input: PeerSession.Input) throws(Violation) {
    switch input {
    case .connected(let id, let direction, _, _):
      open.append(id)
      if direction == .outgoing { isConnecting = false }
    case .connectFailed: isConnecting = false
    case .closed(let id, _): open.removeAll { $0 == id }
    case .expired(let timer): timers[timer] = nil
    default: break
    }
    var lost: Set<ConnectionID> = []
    if case .closed(let id, _) = input { lost.insert(id) }
    for action in session.receive(input, at: now) { try perform(action, after: input, lost) }
    try checkRest(after: input)
  }

  private mutating func perform(
    _ action: PeerSession.Action, after input: PeerSession.Input, _ lost: Set<ConnectionID>
  ) throws(Violation) {
    switch action {
    case .connect:
      try claim(!isConnecting, "connects twice at once after \(input)")
      isConnecting = true
    case .cancelConnect:
      try claim(isConnecting, "gives up an attempt that is not under way, after \(input)")
      isConnecting = false
    case .send(let id, _): try claim(open.contains(id), "sends on \(id), which is not open, after \(input)")
    case .close(let id):
      // What the network has closed is closed on our side too.
      try claim(open.contains(id) || lost.contains(id), "closes \(id), which is not open, after \(input)")
      open.removeAll { $0 == id }
    case .arm(let timer, let instant):
      timers[timer] = instant
      try claim(instant > now, "arms \(timer) for the past, after \(input)")
    case .disarm(let timer): timers[timer] = nil
    case .established(let terms):
      try claim(established == nil, "is established twice after \(input)")
      try claim(open == [terms.connection], "keeps \(open) besides \(terms.connection)")
      established = terms.connection
    case .down:
      try claim(established != nil, "goes down without having been up, after \(input)")
      established = nil
    case .deliver, .refresh, .disable: try claim(established != nil, "\(action) outside of a session, after \(input)")
    case .sweep: break
    }
  }

  private func checkRest(after input: PeerSession.Input) throws(Violation) {
    try claim((session.state == .established) == (established != nil), "is \(session.state), but told \(String(describing: established))")
    try claim((session.negotiated != nil) == (established != nil), "has terms in \(session.state)")
    try claim(open.count <= 2, "\(open.count) connections at once")
    for timer in timers.keys {
      switch timer {
      case .hold(let id), .keepalive(let id): try claim(open.contains(id), "\(timer) is armed, but closed, after \(input)")
      default: break
      }
    }
    if !session.isEnabled {
      try claim(open.isEmpty && !isConnecting && timers.isEmpty, "is stopped with \(open), \(timers.keys), after \(input)")
    }
    // Nothing waits forever: without a connection there is an attempt or a timer that leads to one. A passive side waits for its peer.
    if session.isEnabled, open.isEmpty, !isConnecting, !isPassive {
      try claim(timers[.connectRetry] != nil || timers[.idleHold] != nil, "waits for nothing in \(session.state) after \(input)")
    }
  }
}

func checkSession(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let shape = choices.octet()
  var configuration = SessionConfiguration(
    localAS: 64512, peerAS: shape & 1 != 0 ? 64512 : 65001, routerID: RouterID(rawValue: 0x0a00_0005))
  configuration.families = [.ipv4Unicast, .ipv6Unicast]
  configuration.isPassive = shape & 2 != 0
  if shape & 4 != 0 { configuration.gracefulRestart = nil }
  if shape & 8 != 0 { configuration.holdTime = .zero }
  configuration.disablesFamilies = shape & 16 != 0
  configuration.gracefulRestart?.coversNotification = shape & 32 != 0
  configuration.prefixLimitPause = .seconds(30)
  var runner = Runner(session: PeerSession(configuration, at: Instant(nanoseconds: 0)), isPassive: configuration.isPassive)
  let peer = IPAddress.v4(IPv4Address(192, 0, 2, 2))
  let local = IPAddress.v4(IPv4Address(192, 0, 2, 1))

  for _ in 0..<200 where !choices.isAtEnd {
    let what = choices.octet()
    let argument = choices.octet()
    // Mostly what is there, now and then what has gone or never was.
    var target = ConnectionID(UInt64(argument >> 3))
    if argument & 7 != 7, !runner.open.isEmpty { target = runner.open[Int(argument) % runner.open.count] }
    switch what % 18 {
    case 0, 1: try runner.receive(.start)
    case 2: try runner.receive(argument & 1 == 0 ? .stop(.cease(.administrativeShutdown)) : .abandon)
    case 3: try runner.receive(.reset(.cease(.administrativeReset)))
    case 4, 5:
      let direction: Direction = argument & 1 == 0 ? .incoming : .outgoing
      // A transport reports an attempt once; a late success of one that was given up may still come.
      guard direction == .incoming || runner.isConnecting || argument & 2 != 0 else { continue }
      let id = ConnectionID(runner.nextConnection)
      runner.nextConnection += 1
      try runner.receive(.connected(id, direction, local: local, peer: peer))
    case 6: try runner.receive(.connectFailed("refused"))
    case 7:
      guard runner.open.contains(target) else { continue }
      try runner.receive(.closed(target, "end of stream"))
    case 8, 9: try deliver(&runner, target, .keepalive)
    case 10, 11:
      var capabilities: [Capability] = [.multiprotocol(.ipv4Unicast)]
      if argument & 8 != 0 { capabilities.append(.multiprotocol(.ipv6Unicast)) }
      if argument & 16 != 0 {
        let families = [Capability.GracefulRestart.Family(.ipv4Unicast, isForwarding: argument & 32 != 0)]
        capabilities.append(
          .gracefulRestart(
            .init(isRestarting: argument & 64 != 0, coversNotification: true, restartTimeSeconds: 60, families: families)))
      }
      let number: ASNumber = argument & 128 != 0 ? 65003 : configuration.peerAS ?? 65001
      capabilities.append(.fourOctetAS(number))
      let id = RouterID(rawValue: 0x0a00_0000 + UInt32(argument & 15))
      let open = Open(asNumber: number, holdTimeSeconds: UInt16(choices.octet()), routerID: id, capabilities: capabilities)
      try deliver(&runner, target, .open(open))
    case 12:
      var update = Update()
      if argument & 8 != 0 { update.endOfRIB = .ipv4Unicast }
      if argument & 16 != 0 { update.remarks = [UpdateRemark(.disableFamily(.ipv6Unicast), "fuzz")] }
      try deliver(&runner, target, .update(update))
    case 13:
      let notifications: [Notification] = [
        .cease(.administrativeShutdown), .holdTimerExpired, .openMalformed, .cease(.hardReset), .malformedAttributeList,
      ]
      try deliver(&runner, target, .notification(notifications[Int(argument >> 3) % notifications.count]))
    case 14: try deliver(&runner, target, .routeRefresh(RouteRefresh(argument & 8 == 0 ? .ipv4Unicast : .ipv6Unicast)))
    case 15:
      if argument & 8 == 0 {
        guard runner.open.contains(target) else { continue }
        try runner.receive(.failure(target, MessageFailure(.malformedAttributeList, "fuzz")))
      } else {
        try runner.receive(argument & 16 == 0 ? .stalled("reads nothing") : .prefixLimitExceeded(.ipv4Unicast, limit: 10))
      }
    default:
      // The next timer in time; or one that nobody armed, which fires late.
      if argument & 7 == 7 {
        let timers: [PeerSession.Timer] = [.connectRetry, .idleHold, .restart, .stale, .hold(target), .keepalive(target)]
        let timer = timers[Int(argument >> 3) % timers.count]
        guard runner.timers[timer] == nil else { continue }
        try runner.receive(.expired(timer))
      } else if let next = runner.timers.min(by: { ($0.value, "\($0.key)") < ($1.value, "\($1.key)") }) {
        runner.now = max(runner.now, next.value)
        try runner.receive(.expired(next.key))
      }
    }
  }
  try runner.receive(.stop(.cease(.peerDeconfigured)))
}

private func deliver(_ runner: inout Runner, _ id: ConnectionID, _ message: Message) throws(Violation) {
  guard runner.open.contains(id) else { return }
  try runner.receive(.message(id, message, octets: 19))
}

// MARK: The RIBs

/// UPDATE messages as they come from the wire go in, what goes out is read by peers who remember it.
func checkRoutes(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  var table = RoutingTable(
    routerID: RouterID(rawValue: 0x0a00_00fe), clusterID: choices.flag() ? RouterID(rawValue: 9) : nil, multipathMax: 4,
    unknownNextHops: .resolvable(interiorCost: 0))
  var peers: [Int: RoutePeer] = [:]
  var decode: [Int: DecodeOptions] = [:]
  /// What each peer told and has not taken back, by family, prefix and path.
  var told: [Int: Set<NLRI>] = [:]
  var forwarding: [IPPrefix: [IPAddress]] = [:]

  func flush() throws(Violation) {
    for output in table.flush() {
      switch output {
      case .forwarding(let changes):
        for change in changes { forwarding[change.prefix] = change.nextHops.isEmpty ? nil : change.nextHops }
      case .updates(let stream):
        for delivery in stream.deliveries {
          let number = Int(delivery.peer.rawValue)
          guard let peer = peers[number] else { throw Violation("speaks to \(delivery.peer), which is gone") }
          var options = decode[number]!
          options.localAddresses = []
          options.firstAS = nil
          for range in delivery.ranges {
            for update in try updates(Array(stream.octets[range]), options) {
              try claim(update.remarks.isEmpty, "\(peer.name) finds fault with what it is sent: \(update.remarks)")
            }
          }
        }
      }
    }
  }

  for _ in 0..<60 where !choices.isAtEnd {
    let what = choices.octet()
    let number = Int(what >> 4) % 4
    switch what & 15 {
    case 0, 1:
      if peers[number] != nil {
        table.receive(.peerDown(PeerID(number), keepStale: false))
      }
      let shape = choices.octet()
      let isExternal = shape & 1 == 1
      var export = ExportConfiguration(
        isExternal: isExternal, localAS: 64512, localAddress: .v4(IPv4Address(192, 0, 2, 254)),
        families: shape & 2 == 0 ? [.v4] : [.v4, .v6])
      export.localAddressOther = IPAddress("2001:db8::254")
      export.isReflectorClient = shape & 4 == 4
      export.encoding = EncodeOptions(fourOctetAS: shape & 8 == 0, extendedMessages: shape & 16 == 16)
      let peer = RoutePeer(
        name: "peer\(number)", address: .v4(IPv4Address(192, 0, 2, UInt8(number + 1))),
        asNumber: isExternal ? ASNumber(65001 + UInt32(number)) : 64512,
        routerID: RouterID(rawValue: 0x0a00_0001 + UInt32(number)), export: export)
      peers[number] = peer
      told[number] = []
      decode[number] = DecodeOptions(
        isExternal: isExternal, fourOctetAS: shape & 8 == 0, families: Set(export.families.map { AddressFamily(unicast: $0) }),
        extendedMessages: shape & 16 == 16, localAddresses: [export.localAddress])
      table.receive(.peerUp(PeerID(number), peer))
    case 2: table.receive(.originate(IPPrefix(.v4(IPv4Address(10, 0, choices.octet(), 0)), length: 24)))
    case 3: table.receive(.withdraw(IPPrefix(.v4(IPv4Address(10, 0, choices.octet(), 0)), length: 24)))
    case 4:
      let hop = IPAddress.v4(IPv4Address(192, 0, 2, choices.octet()))
      table.receive(.nextHop(hop, choices.flag() ? .unresolvable : .resolvable(interiorCost: UInt32(choices.octet()))))
    case 5: if peers[number] != nil { table.receive(.refresh(PeerID(number), choices.flag() ? .v4 : .v6)) }
    case 6:
      guard peers[number] != nil else { continue }
      let family: IPFamily = choices.flag() ? .v4 : .v6
      table.receive(.forget(PeerID(number), family))
      told[number] = told[number]!.filter { $0.family != family }
    case 7: try flush()
    default:
      guard let options = decode[number] else { continue }
      let count = Int(choices.octet()) << 8 | Int(choices.octet())
      var body: [UInt8] = []
      let countMax = min(count & 0x1fff, options.messageLengthMax - MessageLength.header)
      while body.count < countMax, !choices.isAtEnd { body.append(choices.octet()) }
      let length = body.count + MessageLength.header
      let header = [UInt8](repeating: 0xff, count: 16) + [UInt8(length >> 8), UInt8(length & 0xff), 2]
      guard case .update(let update)? = try? Message.decode(header + body, options: options) else { continue }
      table.receive(.update(PeerID(number), update))
      for item in update.withdrawals { told[number]!.subtract(item.destinations) }
      for item in update.announcements { told[number]!.formUnion(item.destinations) }
    }
  }
  try flush()
  for (number, routes) in told where peers[number] != nil {
    let counts = table.counts(of: PeerID(number))
    try claim(counts.received == routes.count, "peer \(number) told \(routes.count) routes, counted are \(counts)")
  }
  // What is forwarded was told by somebody.
  let all = Set(told.values.joined().map(\.prefix))
  for prefix in forwarding.keys { try claim(all.contains(prefix), "\(prefix) is forwarded, and nobody told it") }
  // Nothing outlives what it came from.
  for number in peers.keys { table.receive(.peerDown(PeerID(number), keepStale: false)) }
  for third in UInt8.min...UInt8.max { table.receive(.withdraw(IPPrefix(.v4(IPv4Address(10, 0, third, 0)), length: 24))) }
  peers = [:]
  _ = table.flush()
  try claim(table.prefixCount == 0, "\(table.prefixCount) prefixes are left behind")
  try claim(table.attributeSetCount == 0, "\(table.attributeSetCount) attribute sets are left behind")
}

private func updates(_ octets: [UInt8], _ options: DecodeOptions) throws(Violation) -> [Update] {
  var framer = MessageFramer()
  framer.append(octets)
  var updates: [Update] = []
  while true {
    let message: Message?
    do throws(MessageFailure) {
      message = try framer.next(options: options)
    } catch {
      throw Violation("a peer cannot read what it is sent: \(error)")
    }
    guard let message else { break }
    guard case .update(let update) = message else { throw Violation("sends \(message) among routes") }
    updates.append(update)
  }
  try claim(framer.isEmpty, "a range does not end with a message")
  return updates
}
