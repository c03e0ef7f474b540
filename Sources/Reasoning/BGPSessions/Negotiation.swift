/// What two OPENs agree on, or why they do not (RFC 4271, section 6.2, and the capabilities' own documents).
import Addresses
import BGPMessages

/// The terms of an established session.
public struct Negotiated: Hashable, Sendable {
  public var connection: ConnectionID
  public var localAddress: IPAddress
  public var peerAddress: IPAddress
  public var peerAS: ASNumber
  public var peerRouterID: RouterID
  public var isExternal: Bool
  /// Zero if the session lives without KEEPALIVE messages.
  public var holdTime: Duration
  public var keepaliveInterval: Duration
  public var families: Set<AddressFamily>
  public var fourOctetAS: Bool
  /// Families in which the peer sends several paths, and in which we may.
  public var addPathReceive: Set<AddressFamily>
  public var addPathSend: Set<AddressFamily>
  /// Families whose IPv4 destinations may have IPv6 next hops, in both directions.
  public var extendedNextHop: Set<AddressFamily>
  public var extendedMessages: Bool
  public var routeRefresh: Bool
  public var enhancedRouteRefresh: Bool
  /// What the peer said about its restarts; nil if it did not, or if we have graceful restart off.
  public var gracefulRestart: Capability.GracefulRestart?
  public var peerRole: Capability.Role?

  var localAddresses: [IPAddress] = []
  var firstAS: ASNumber?
  var disablesFamilies = false
  var isConfederationMember = false
  var bothCoverNotification = false

  /// How to read the peer's messages.
  public var decodeOptions: DecodeOptions {
    DecodeOptions(
      isExternal: isExternal, fourOctetAS: fourOctetAS, families: families, addPath: addPathReceive, extendedNextHop: extendedNextHop,
      extendedMessages: extendedMessages, localAddresses: localAddresses, firstAS: firstAS,
      isConfederationMember: isConfederationMember, disablesFamilies: disablesFamilies)
  }
  /// How to write messages for the peer.
  public var encodeOptions: EncodeOptions {
    EncodeOptions(fourOctetAS: fourOctetAS, addPath: addPathSend, extendedMessages: extendedMessages)
  }
  /// Which routes the peer has kept while we were away, and expects to be told again.
  public var isPeerRestarting: Bool { gracefulRestart?.isRestarting ?? false }
}

extension Negotiated {
  init(
    _ configuration: SessionConfiguration, _ open: Open, connection: ConnectionID, localAddress: IPAddress, peerAddress: IPAddress
  ) throws(MessageFailure) {
    let number = open.asNumber
    if let expected = configuration.peerAS, expected != number {
      throw MessageFailure(.badPeerAS, "the peer is AS \(number), configured is AS \(expected)")
    }
    // RFC 6793, section 4.2.1: the fixed field has the same number, or AS_TRANS.
    if open.twoOctetAS != number.twoOctets, open.twoOctetAS != ASNumber.transition.twoOctets {
      throw MessageFailure(.badPeerAS, "the peer says AS \(open.twoOctetAS) and AS \(number) in one OPEN")
    }
    if number.isZero { throw MessageFailure(.badPeerAS, "the peer says AS 0") }
    let isExternal = number != configuration.localAS
    // RFC 6286, section 2.2: within an AS identifiers differ.
    if open.routerID.rawValue == 0 || (!isExternal && open.routerID == configuration.routerID) {
      throw MessageFailure(.badIdentifier, "the peer's router id \(open.routerID) is \(open.routerID.rawValue == 0 ? "zero" : "ours")")
    }
    if open.holdTimeSeconds == 1 || open.holdTimeSeconds == 2 {
      throw MessageFailure(.unacceptableHoldTime, "the peer wants a hold time of \(open.holdTimeSeconds) s")
    }

    self.connection = connection
    self.localAddress = localAddress
    self.peerAddress = peerAddress
    self.isExternal = isExternal
    peerAS = number
    peerRouterID = open.routerID
    let holdSeconds = min(open.holdTimeSeconds, configuration.holdTimeSeconds)
    holdTime = .seconds(Int(holdSeconds))
    // RFC 4271, section 4.4: a third is the recommended maximum.
    keepaliveInterval = min(configuration.keepaliveInterval ?? holdTime / 3, holdTime / 3)
    if holdSeconds > 0, keepaliveInterval < .seconds(1) { keepaliveInterval = .seconds(1) }

    var offered: Set<AddressFamily> = []
    var addPathReceive: Set<AddressFamily> = []
    var addPathSend: Set<AddressFamily> = []
    var nextHops: Set<AddressFamily> = []
    var roles: Set<Capability.Role> = []
    fourOctetAS = false
    extendedMessages = false
    routeRefresh = false
    enhancedRouteRefresh = false
    gracefulRestart = nil
    var speaksMultiprotocol = false
    for capability in open.capabilities {
      switch capability {
      case .multiprotocol(let family):
        speaksMultiprotocol = true
        offered.insert(family)
      case .routeRefresh: routeRefresh = true
      case .enhancedRouteRefresh: enhancedRouteRefresh = true
      case .extendedNextHop(let entries):
        for entry in entries where entry.nextHopAFI == 2 { nextHops.insert(entry.family) }
      case .extendedMessage: extendedMessages = configuration.extendedMessages
      case .role(let role): roles.insert(role)
      case .gracefulRestart(let restart):
        if configuration.gracefulRestart != nil { gracefulRestart = restart }
      case .fourOctetAS: fourOctetAS = true
      case .addPath(let entries):
        for entry in entries {
          if entry.sends, configuration.addPathReceive.contains(entry.family) { addPathReceive.insert(entry.family) }
          if entry.receives, configuration.addPathSend.contains(entry.family) { addPathSend.insert(entry.family) }
        }
      case .unknown: break
      }
    }
    // RFC 4760, section 8: who says nothing speaks IPv4 unicast.
    if !speaksMultiprotocol { offered.insert(.ipv4Unicast) }
    families = offered.intersection(configuration.families)
    if families.isEmpty {
      throw MessageFailure(
        .unsupportedCapability(configuration.families.sorted().map { .multiprotocol($0) }),
        "no address family in common: the peer offers \(offered.sorted().map(\.description).joined(separator: ", "))")
    }
    self.addPathReceive = addPathReceive.intersection(families)
    self.addPathSend = addPathSend.intersection(families)
    extendedNextHop = configuration.extendedNextHop ? nextHops.intersection(families).intersection([.ipv4Unicast]) : []
    peerRole = isExternal ? roles.first : nil
    if isExternal { try Self.checkRoles(configuration, roles) }
    localAddresses = [localAddress] + configuration.localAddresses.filter { $0 != localAddress }
    firstAS = configuration.enforcesFirstAS && isExternal ? number : nil
    disablesFamilies = configuration.disablesFamilies
    isConfederationMember = configuration.isConfederationMember
    bothCoverNotification =
      configuration.gracefulRestart?.coversNotification ?? false && gracefulRestart?.coversNotification ?? false
  }

  /// RFC 9234, section 4.2.
  private static func checkRoles(_ configuration: SessionConfiguration, _ roles: Set<Capability.Role>) throws(MessageFailure) {
    guard let ours = configuration.role else { return }
    if roles.count > 1 { throw MessageFailure(.roleMismatch, "the peer tells several roles") }
    guard let theirs = roles.first else {
      if configuration.isRoleStrict { throw MessageFailure(.roleMismatch, "the peer does not tell its role") }
      return
    }
    let isPair =
      switch (ours, theirs) {
      case (.provider, .customer), (.customer, .provider), (.routeServer, .routeServerClient), (.routeServerClient, .routeServer),
        (.peer, .peer):
        true
      default: false
      }
    if !isPair { throw MessageFailure(.roleMismatch, "the peer is \(theirs) where we are \(ours)") }
  }
}
