/// Mutations as nfnetlink messages: one batch is one transaction of the kernel.
///
/// Hazards and the answers (measured on 6.18):
/// - A batch without a proper NFNL_MSG_BATCH_END is acknowledged and silently thrown away: `finish` writes it, and its type is a
///   number here, not the unparenthesised C macro.
/// - The length of a nest has 16 bits: lists of elements are split before they reach 64 kB.
/// - Sets are found by name in one linear walk even when an id is given, so ids are only written where the kernel asks for them.
/// - Keys in host byte order (interface names, marks) print as nothing unless the set's user data tell the order.

import NetlinkMessages
import Octets

/// NFT_MSG_* with the subsystem's number.
public enum RulesetMessageType {
  static let subsystem: UInt16 = 10
  public static func nft(_ number: UInt16) -> UInt16 { subsystem << 8 | number }
  public static let newTable = nft(0)
  public static let getTable = nft(1)
  public static let deleteTable = nft(2)
  public static let newChain = nft(3)
  public static let getChain = nft(4)
  public static let deleteChain = nft(5)
  public static let newRule = nft(6)
  public static let getRule = nft(7)
  public static let deleteRule = nft(8)
  public static let newSet = nft(9)
  public static let getSet = nft(10)
  public static let deleteSet = nft(11)
  public static let newElement = nft(12)
  public static let getElement = nft(13)
  public static let deleteElement = nft(14)
  public static let newGeneration = nft(15)
  public static let getGeneration = nft(16)
  public static let batchBegin: UInt16 = 0x10
  public static let batchEnd: UInt16 = 0x11
  /// NFNLGRP_NFTABLES
  public static let group: UInt32 = 7
  /// NFPROTO_INET
  public static let familyInet: UInt8 = 1
}

/// Type-length-value lists that user space keeps in the kernel (libnftnl's udata).
enum UserData {
  static let commentMax = 128
  /// Cuts at a character's boundary.
  static func cut(_ comment: String) -> [UInt8] {
    // libnftables counts the terminating zero; a control character or quote would break its listing's syntax.
    var octets = Array(comment.utf8).map { $0 < 0x20 || $0 == 0x7f ? UInt8(ascii: " ") : $0 == UInt8(ascii: "\"") ? UInt8(ascii: "'") : $0 }
    guard octets.count >= commentMax else { return octets }
    var end = commentMax - 1
    while end > 0, octets[end] & 0xc0 == 0x80 { end -= 1 }
    octets.removeSubrange(end...)
    return octets
  }
  static func entry(_ type: UInt8, _ value: [UInt8]) -> [UInt8] { [type, UInt8(value.count)] + value }
  /// Comments of rules, tables, chains and elements have type 0.
  static func comment(_ text: String?, type: UInt8 = 0) -> [UInt8] { text.map { entry(type, cut($0) + [0]) } ?? [] }

  static func set(_ spec: SetSpec) -> [UInt8] {
    // 1 is host order, 2 network order; a concatenation has the order "invalid" (0) and its fields' types tell.
    func order(_ type: KeyType) -> [UInt8] { KeyOctets.host32(type.isHostOrder ? 1 : 2) }
    var result = entry(0, spec.isConcatenation ? KeyOctets.host32(0) : order(spec.key[0]))
    if case .value(let type)? = spec.data { result += entry(1, order(type)) }
    if spec.isInterval { result += entry(2, KeyOctets.host32(0)) }
    return result + comment(spec.comment, type: 7)
  }
}

extension SetSpec {
  struct Flags {
    static let interval: UInt32 = 0x4
    static let map: UInt32 = 0x8
    static let concatenation: UInt32 = 0x80
  }
  var flags: UInt32 {
    (isInterval ? Flags.interval : 0) | (data != nil ? Flags.map : 0) | (isConcatenation ? Flags.concatenation : 0)
  }
}

/// One transaction under construction.
public struct RulesetTransaction {
  public var batch: NetlinkBatch
  /// For each message of the batch, which mutation it belongs to; nil for the frame.
  public private(set) var origins: [Int?] = []
  private let table: String
  private var setID: UInt32 = 0
  private var mutationCount = 0

  /// Mutations apply to the table `inet <table>`, in order.
  public init(table: String, _ mutations: [RulesetMutation]) {
    self.table = table
    batch = NetlinkBatch(capacity: 64 * mutations.count + 256)
    frame(RulesetMessageType.batchBegin)
    for (index, mutation) in mutations.enumerated() {
      mutationCount = index
      // An acknowledgement of the last object is enough: errors come without being asked for.
      encode(mutation, isLast: index == mutations.count - 1)
    }
    frame(RulesetMessageType.batchEnd)
  }

  private mutating func frame(_ type: UInt16) {
    batch.add(type: type, flags: []) {
      $0.u8(0)
      $0.u8(0)
      $0.u16(RulesetMessageType.subsystem)
    }
    origins.append(nil)
  }

  private mutating func message(
    _ type: UInt16, _ flags: NetlinkFlags, isLast: Bool, family: UInt8 = RulesetMessageType.familyInet, _ body: (inout OctetWriter) -> Void
  ) {
    batch.add(type: type, flags: isLast ? flags.union(.acknowledge) : flags) {
      $0.u8(family)
      $0.u8(0)
      $0.u16(0)
      body(&$0)
    }
    origins.append(mutationCount)
  }

  private mutating func encode(_ mutation: RulesetMutation, isLast: Bool) {
    typealias T = RulesetMessageType
    let table = table
    switch mutation {
    case .addTable(let flags):
      message(T.newTable, .create, isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(2, u32: flags.rawValue)
      }
    case .flushPredecessor(let other):
      // Without a chain it is about all of them.
      message(T.deleteRule, [], isLast: isLast, family: other.family) { $0.attribute(1, text: other.name) }
    case .deletePredecessor(let other):
      message(T.deleteTable, [], isLast: isLast, family: other.family) { $0.attribute(1, text: other.name) }
    case .deleteTable: message(T.deleteTable, [], isLast: isLast) { $0.attribute(1, text: table) }
    case .addChain(let name, let hook, let comment):
      message(T.newChain, [.create, .exclusive], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(3, text: name)
        if let hook {
          $0.nest(4) {
            $0.attribute(1, u32: hook.point.rawValue)
            $0.attribute(2, u32: UInt32(bitPattern: hook.priority))
          }
          $0.attribute(5, u32: 1)  // policy accept
          $0.attribute(7, text: hook.kind.rawValue)
        }
        if let comment { $0.attribute(12, UserData.comment(comment)) }
      }
    case .deleteChain(let name):
      message(T.deleteChain, [], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(3, text: name)
      }
    case .addRule(let chain, let rule):
      message(T.newRule, [.create, .append], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(2, text: chain)
        $0.nest(4) { writer in
          for statement in rule.statements {
            for expression in statement.expressions { expression.encode(into: &writer) }
          }
        }
        if let comment = rule.comment { $0.attribute(7, UserData.comment(comment)) }
      }
    case .flushChain(let name):
      message(T.deleteRule, [], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(2, text: name)
      }
    case .addSet(let name, let spec):
      setID += 1
      let id = setID
      message(T.newSet, [.create, .exclusive], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(2, text: name)
        $0.attribute(3, u32: spec.flags)
        $0.attribute(4, u32: spec.typeNumber)
        $0.attribute(5, u32: UInt32(spec.keyLength))
        switch spec.data {
        case nil: break
        case .value(let type)?:
          $0.attribute(6, u32: type.rawValue)
          $0.attribute(7, u32: UInt32(type.length))
        case .verdict?: $0.attribute(6, u32: 0xffff_ff00)
        }
        if spec.isConcatenation {
          $0.nest(9) {
            $0.nest(2) {
              for type in spec.key { $0.nest(Attribute.listElement) { $0.attribute(1, u32: UInt32(type.length)) } }
            }
          }
        }
        $0.attribute(10, u32: id)
        $0.attribute(13, UserData.set(spec))
      }
    case .deleteSet(let name):
      message(T.deleteSet, [], isLast: isLast) {
        $0.attribute(1, text: table)
        $0.attribute(2, text: name)
      }
    case .addElements(let set, let spec, let elements):
      self.elements(T.newElement, [.create, .exclusive], set, spec, elements, isLast: isLast)
    case .deleteElements(let set, let spec, let elements): self.elements(T.deleteElement, [], set, spec, elements, isLast: isLast)
    }
  }

  private mutating func elements(
    _ type: UInt16, _ flags: NetlinkFlags, _ set: String, _ spec: SetSpec, _ elements: [SetElement], isLast: Bool
  ) {
    let table = table
    // An element of a map to chains is the largest: key, end, data, a name of 255 octets.
    let largest = 64 + 2 * (spec.keyLength + 8) + (spec.data == nil ? 0 : 300)
    let perMessage = max(1, (60_000 / largest))
    var start = 0
    while start < elements.count {
      let end = min(start + perMessage, elements.count)
      message(type, flags, isLast: isLast && end == elements.count) {
        $0.attribute(1, text: table)
        $0.attribute(2, text: set)
        $0.nest(3) { writer in
          for element in elements[start..<end] { Self.encode(element, spec, into: &writer) }
        }
      }
      start = end
    }
  }

  private static func encode(_ element: SetElement, _ spec: SetSpec, into writer: inout OctetWriter) {
    writer.nest(Attribute.listElement) {
      $0.dataValue(1, element.key)
      if spec.isInterval, spec.isConcatenation, let last = element.last { $0.dataValue(10, last) }
      switch element.data {
      case nil: break
      case .value(let value)?: $0.dataValue(2, value)
      case .verdict(let verdict)?: $0.nest(2, body: verdict.encode)
      }
    }
    // Without concatenation a range is two elements: its start, and behind its last value an end. All ones has no "behind".
    if spec.isInterval, !spec.isConcatenation, let last = element.last, let end = KeyOctets.successor(last) {
      writer.nest(Attribute.listElement) {
        $0.dataValue(1, end)
        $0.attribute(3, u32: 1)
      }
    }
  }
}
