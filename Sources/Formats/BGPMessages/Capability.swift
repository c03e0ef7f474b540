/// What a speaker can do, as it says in its OPEN (RFC 5492).
import Octets

public enum Capability: Hashable, Sendable {
  /// RFC 4760.
  case multiprotocol(AddressFamily)
  /// RFC 2918.
  case routeRefresh
  /// RFC 7313.
  case enhancedRouteRefresh
  /// RFC 8950: prefixes of the family may have next hops of the other AFI.
  case extendedNextHop([ExtendedNextHop])
  /// RFC 8654.
  case extendedMessage
  /// RFC 9234.
  case role(Role)
  /// RFC 4724.
  case gracefulRestart(GracefulRestart)
  /// RFC 6793.
  case fourOctetAS(ASNumber)
  /// RFC 7911.
  case addPath([AddPath])
  /// Kept as octets.
  case unknown(code: UInt8, value: [UInt8])

  public struct ExtendedNextHop: Hashable, Sendable {
    public var family: AddressFamily
    public var nextHopAFI: UInt16
    public init(family: AddressFamily, nextHopAFI: UInt16) {
      self.family = family
      self.nextHopAFI = nextHopAFI
    }
  }

  /// The sender's place towards the receiver (RFC 9234, section 4.1).
  public enum Role: UInt8, Sendable {
    case provider = 0
    case routeServer = 1
    case routeServerClient = 2
    case customer = 3
    case peer = 4
  }

  public struct GracefulRestart: Hashable, Sendable {
    /// R: the sender has restarted and waits for End-of-RIB.
    public var isRestarting: Bool
    /// N: routes are also kept when a NOTIFICATION ends the session (RFC 8538).
    public var coversNotification: Bool
    /// 0...4095 seconds that the receiver should wait for the sender.
    public var restartTimeSeconds: UInt16
    public var families: [Family]
    public struct Family: Hashable, Sendable {
      public var family: AddressFamily
      /// F: forwarding went on while the speaker was away.
      public var isForwarding: Bool
      public init(_ family: AddressFamily, isForwarding: Bool) {
        self.family = family
        self.isForwarding = isForwarding
      }
    }
    public init(isRestarting: Bool = false, coversNotification: Bool = false, restartTimeSeconds: UInt16, families: [Family]) {
      self.isRestarting = isRestarting
      self.coversNotification = coversNotification
      self.restartTimeSeconds = min(restartTimeSeconds, 4095)
      self.families = families
    }
  }

  public struct AddPath: Hashable, Sendable {
    public var family: AddressFamily
    /// The sender takes several paths per prefix.
    public var receives: Bool
    /// The sender can send several paths per prefix.
    public var sends: Bool
    public init(_ family: AddressFamily, receives: Bool, sends: Bool) {
      self.family = family
      self.receives = receives
      self.sends = sends
    }
  }

  public var code: UInt8 {
    switch self {
    case .multiprotocol: CapabilityCode.multiprotocol
    case .routeRefresh: CapabilityCode.routeRefresh
    case .enhancedRouteRefresh: CapabilityCode.enhancedRouteRefresh
    case .extendedNextHop: CapabilityCode.extendedNextHop
    case .extendedMessage: CapabilityCode.extendedMessage
    case .role: CapabilityCode.role
    case .gracefulRestart: CapabilityCode.gracefulRestart
    case .fourOctetAS: CapabilityCode.fourOctetAS
    case .addPath: CapabilityCode.addPath
    case .unknown(let code, _): code
    }
  }
}

extension Capability {
  /// Code, length, value.
  public var encoded: [UInt8] {
    var value = OctetWriter()
    switch self {
    case .multiprotocol(let family):
      value.u16(family.afi)
      value.u8(0)
      value.u8(family.safi)
    case .routeRefresh, .enhancedRouteRefresh, .extendedMessage: break
    case .extendedNextHop(let entries):
      for entry in entries {
        value.u16(entry.family.afi)
        value.u16(UInt16(entry.family.safi))
        value.u16(entry.nextHopAFI)
      }
    case .role(let role): value.u8(role.rawValue)
    case .gracefulRestart(let restart):
      value.u16(
        (restart.isRestarting ? 0x8000 : 0) | (restart.coversNotification ? 0x4000 : 0) | (restart.restartTimeSeconds & 0x0fff))
      for entry in restart.families {
        value.u16(entry.family.afi)
        value.u8(entry.family.safi)
        value.u8(entry.isForwarding ? 0x80 : 0)
      }
    case .fourOctetAS(let number): value.u32(number.rawValue)
    case .addPath(let entries):
      for entry in entries {
        value.u16(entry.family.afi)
        value.u8(entry.family.safi)
        value.u8((entry.receives ? 1 : 0) | (entry.sends ? 2 : 0))
      }
    case .unknown(_, let octets): value.append(octets)
    }
    precondition(value.count <= 255, "a capability has at most 255 octets")
    return [code, UInt8(value.count)] + value.octets
  }

  /// Reads one capability: code, length, value.
  init(decoding reader: inout OctetReader) throws(WireError) {
    let start = reader.offset
    let code = try reader.u8()
    let length = try Int(reader.u8())
    var value = try reader.nested(length)
    switch code {
    case CapabilityCode.multiprotocol:
      let afi = try value.u16()
      try value.skip(1)
      self = try .multiprotocol(AddressFamily(afi: afi, safi: value.u8()))
    case CapabilityCode.routeRefresh: self = .routeRefresh
    case CapabilityCode.enhancedRouteRefresh: self = .enhancedRouteRefresh
    case CapabilityCode.extendedMessage: self = .extendedMessage
    case CapabilityCode.extendedNextHop:
      var entries: [ExtendedNextHop] = []
      while !value.isAtEnd {
        let afi = try value.u16()
        let safi = try value.u16()
        let nextHopAFI = try value.u16()
        guard let safi = UInt8(exactly: safi) else { continue }
        entries.append(ExtendedNextHop(family: AddressFamily(afi: afi, safi: safi), nextHopAFI: nextHopAFI))
      }
      self = .extendedNextHop(entries)
    case CapabilityCode.role:
      let role = try value.u8()
      // An unassigned role is not ours to judge here: the session compares what it knows (RFC 9234, section 4.2).
      self = Role(rawValue: role).map { .role($0) } ?? .unknown(code: code, value: [role])
    case CapabilityCode.gracefulRestart:
      let head = try value.u16()
      var families: [GracefulRestart.Family] = []
      while !value.isAtEnd {
        let afi = try value.u16()
        let family = try AddressFamily(afi: afi, safi: value.u8())
        families.append(GracefulRestart.Family(family, isForwarding: try value.u8() & 0x80 != 0))
      }
      self = .gracefulRestart(
        GracefulRestart(
          isRestarting: head & 0x8000 != 0, coversNotification: head & 0x4000 != 0, restartTimeSeconds: head & 0x0fff,
          families: families))
    case CapabilityCode.fourOctetAS: self = try .fourOctetAS(ASNumber(value.u32()))
    case CapabilityCode.addPath:
      var entries: [AddPath] = []
      while !value.isAtEnd {
        let afi = try value.u16()
        let family = try AddressFamily(afi: afi, safi: value.u8())
        let direction = try value.u8()
        // RFC 7911, section 4: an entry with another value is ignored.
        if (1...3).contains(direction) {
          entries.append(AddPath(family, receives: direction & 1 != 0, sends: direction & 2 != 0))
        }
      }
      self = .addPath(entries)
    default: self = .unknown(code: code, value: value.rest())
    }
    guard value.isAtEnd else { throw WireError(.invalid("length \(length) of capability \(code)"), at: start) }
  }
}
