/// NOTIFICATION: why a session ends, in the words of the registry (RFC 4271, sections 4.5 and 6; RFC 4486, 6608, 7313, 9003, 9234).

public struct Notification: Error, Hashable, Sendable {
  public var code: UInt8
  public var subcode: UInt8
  /// What the code prescribes, at most what fits in one message.
  public var data: [UInt8]
  public init(code: UInt8, subcode: UInt8 = 0, data: [UInt8] = []) {
    self.code = code
    self.subcode = subcode
    self.data = data
  }
}

/// Error codes.
public enum NotificationCode {
  public static let messageHeader: UInt8 = 1
  public static let open: UInt8 = 2
  public static let update: UInt8 = 3
  public static let holdTimerExpired: UInt8 = 4
  public static let finiteStateMachine: UInt8 = 5
  public static let cease: UInt8 = 6
  public static let routeRefresh: UInt8 = 7
}

/// Why a speaker ceases (RFC 4486; 9 is RFC 8538, 10 is RFC 9384).
public enum CeaseReason: UInt8, Sendable, CaseIterable {
  case prefixCountMax = 1
  case administrativeShutdown = 2
  case peerDeconfigured = 3
  case administrativeReset = 4
  case connectionRejected = 5
  case otherConfigurationChange = 6
  case connectionCollision = 7
  case outOfResources = 8
  case hardReset = 9
  case bfdDown = 10
}

extension Notification {
  // RFC 4271, section 6.1.
  public static let connectionNotSynchronized = Notification(code: 1, subcode: 1)
  public static func badMessageLength(_ length: UInt16) -> Notification {
    Notification(code: 1, subcode: 2, data: [UInt8(length >> 8), UInt8(length & 0xff)])
  }
  public static func badMessageType(_ type: UInt8) -> Notification { Notification(code: 1, subcode: 3, data: [type]) }

  // RFC 4271, section 6.2.
  public static let openMalformed = Notification(code: 2)
  /// The data is the greatest version that we speak.
  public static let unsupportedVersion = Notification(code: 2, subcode: 1, data: [0, 4])
  public static let badPeerAS = Notification(code: 2, subcode: 2)
  public static let badIdentifier = Notification(code: 2, subcode: 3)
  public static let unsupportedOptionalParameter = Notification(code: 2, subcode: 4)
  public static let unacceptableHoldTime = Notification(code: 2, subcode: 6)
  /// The data is the capabilities that were missing, as in an OPEN (RFC 5492, section 5).
  public static func unsupportedCapability(_ capabilities: [Capability]) -> Notification {
    Notification(code: 2, subcode: 7, data: capabilities.flatMap(\.encoded))
  }
  public static let roleMismatch = Notification(code: 2, subcode: 11)

  // RFC 4271, section 6.3.
  public static let malformedAttributeList = Notification(code: 3, subcode: 1)
  /// The data is the attribute as it was received.
  public static func unrecognizedWellKnown(_ attribute: [UInt8]) -> Notification { Notification(code: 3, subcode: 2, data: attribute) }
  public static func optionalAttributeError(_ attribute: [UInt8]) -> Notification { Notification(code: 3, subcode: 9, data: attribute) }
  public static let invalidNetworkField = Notification(code: 3, subcode: 10)

  public static let holdTimerExpired = Notification(code: 4)
  /// RFC 6608: a message that the state does not allow; the data is its type.
  public static func unexpectedMessage(_ type: MessageType, inOpenSent: Bool = false, inOpenConfirm: Bool = false) -> Notification {
    Notification(code: 5, subcode: inOpenSent ? 1 : inOpenConfirm ? 2 : 3, data: [type.rawValue])
  }

  /// A cease; shutdown and reset may tell the reason in words, of which 255 octets are sent (RFC 9003, section 2).
  public static func cease(_ reason: CeaseReason, message: String = "") -> Notification {
    guard !message.isEmpty, reason == .administrativeShutdown || reason == .administrativeReset else {
      return Notification(code: 6, subcode: reason.rawValue)
    }
    var text: [UInt8] = []
    for scalar in message.unicodeScalars {
      let octets = Array(String(scalar).utf8)
      if text.count + octets.count > 255 { break }
      text += octets
    }
    return Notification(code: 6, subcode: reason.rawValue, data: [UInt8(text.count)] + text)
  }
  /// The message grew beyond its limit: which family, how many prefixes (RFC 4486, section 4).
  public static func prefixCountMax(_ family: AddressFamily, limit: UInt32) -> Notification {
    Notification(
      code: 6, subcode: 1,
      data: [
        UInt8(family.afi >> 8), UInt8(family.afi & 0xff), family.safi, UInt8(limit >> 24), UInt8(limit >> 16 & 0xff),
        UInt8(limit >> 8 & 0xff), UInt8(limit & 0xff),
      ])
  }
  /// RFC 7313, section 5: the data is the whole message.
  public static func routeRefreshLength(_ message: [UInt8]) -> Notification { Notification(code: 7, subcode: 1, data: message) }

  public var ceaseReason: CeaseReason? { code == NotificationCode.cease ? CeaseReason(rawValue: subcode) : nil }
  /// What the other operator wrote (RFC 9003); characters that could harm a terminal or a log are replaced.
  public var shutdownMessage: String? {
    guard let reason = ceaseReason, reason == .administrativeShutdown || reason == .administrativeReset,
      let count = data.first, count > 0, data.count > Int(count)
    else { return nil }
    let text = String(decoding: data[1...Int(count)], as: UTF8.self)
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
  }
}

extension Notification: CustomStringConvertible {
  /// Code and subcode in words, and the message of the other operator if there is one.
  public var description: String {
    let detail = subcodeName.isEmpty ? (subcode == 0 ? "" : ": subcode \(subcode)") : ": \(subcodeName)"
    return codeName + detail + (shutdownMessage.map { " (\"\($0)\")" } ?? "")
  }
  var codeName: String {
    switch code {
    case 1: "message header error"
    case 2: "OPEN message error"
    case 3: "UPDATE message error"
    case 4: "hold timer expired"
    case 5: "finite state machine error"
    case 6: "cease"
    case 7: "ROUTE-REFRESH message error"
    default: "error code \(code)"
    }
  }
  var subcodeName: String {
    switch (code, subcode) {
    case (1, 1): "connection not synchronized"
    case (1, 2): "bad message length"
    case (1, 3): "bad message type"
    case (2, 1): "unsupported version number"
    case (2, 2): "bad peer AS"
    case (2, 3): "bad BGP identifier"
    case (2, 4): "unsupported optional parameter"
    case (2, 6): "unacceptable hold time"
    case (2, 7): "unsupported capability"
    case (2, 11): "role mismatch"
    case (3, 1): "malformed attribute list"
    case (3, 2): "unrecognized well-known attribute"
    case (3, 3): "missing well-known attribute"
    case (3, 4): "attribute flags error"
    case (3, 5): "attribute length error"
    case (3, 6): "invalid ORIGIN attribute"
    case (3, 8): "invalid NEXT_HOP attribute"
    case (3, 9): "optional attribute error"
    case (3, 10): "invalid network field"
    case (3, 11): "malformed AS_PATH"
    case (5, 1): "unexpected message in OpenSent"
    case (5, 2): "unexpected message in OpenConfirm"
    case (5, 3): "unexpected message in Established"
    case (6, 1): "maximum number of prefixes reached"
    case (6, 2): "administrative shutdown"
    case (6, 3): "peer de-configured"
    case (6, 4): "administrative reset"
    case (6, 5): "connection rejected"
    case (6, 6): "other configuration change"
    case (6, 7): "connection collision resolution"
    case (6, 8): "out of resources"
    case (6, 9): "hard reset"
    case (6, 10): "BFD down"
    case (7, 1): "invalid message length"
    default: ""
    }
  }
}
