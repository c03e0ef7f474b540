/// What the driver needs of a kernel: read a table, commit a transaction, hear of other hands. The real one and the fake obey alike.

import CLinux
import Glibc
public import NetlinkEdge
import NetlinkMessages
import Octets
public import Rulesets
import Sockets

public struct RulesetError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Positive errno.
  public var code: CInt
  /// The object and what was to happen to it: `add chain policy-in-np/default/web`.
  public var what: String
  /// The kernel's own words, when it sent some.
  public var message: String?
  /// Places in the transaction of what was refused; empty if the error is about the whole.
  public var refused: [Int]
  public init(code: CInt, what: String, message: String? = nil, refused: [Int] = []) {
    self.code = code
    self.what = what
    self.message = message
    self.refused = refused
  }
  /// The table is another process's, and not ours to write.
  public var isOwnedElsewhere: Bool { message?.hasPrefix(Self.ownedElsewhere) ?? false }
  static let ownedElsewhere = "it belongs to another running process"
  public init(_ error: NetlinkError) { self.init(code: error.code, what: error.what, message: error.message) }
  public var description: String {
    NetlinkError(code: code, message: message, what: what).description
  }
}

public protocol RulesetKernel: AnyObject {
  /// The table's name; its family is inet.
  var table: String { get }
  /// Readable when someone, perhaps we ourselves, changed something; -1 if there is nothing to wait for.
  var descriptor: CInt { get }
  /// Nil if there is no such table.
  func read() throws(RulesetError) -> KernelRuleset?
  /// Which of these tables of others there are.
  func present(_ tables: [ForeignTable]) throws(RulesetError) -> [ForeignTable]
  /// All of it or nothing.
  func commit(_ mutations: [RulesetMutation]) throws(RulesetError)
  /// Returns when no packet is under way any more that began before the last commit.
  func waitForPackets()
  /// Takes what waits at the descriptor. True if the table may have been changed by another process.
  func takeNotifications() -> Bool
  /// Another process committed something beside the last transaction of ours, and we did not listen: read the table to know what.
  var hasMissedNotifications: Bool { get }
  /// Counts changes of others to tables of their own, as far as they are told.
  var changesElsewhere: Int { get }
}

extension RulesetKernel {
  public func waitForPackets() {}
  public var hasMissedNotifications: Bool { false }
  public var changesElsewhere: Int { 0 }
}

/// The table in a real kernel.
///
/// One socket sends every change: the kernel ties the owner flag to its port. A second one listens, so that answers and notifications
/// never mix. While someone listens the kernel writes a notification for each object that changes, which is a quarter of a large
/// transaction's cost: for those the listener leaves, and the generation tells whether another hand was there meanwhile.
public final class NetlinkRuleset: RulesetKernel {
  public let table: String
  private let socket: NetlinkSocket
  private let monitor: NetlinkSocket
  public private(set) var hasMissedNotifications = false
  private static let largeOctets = 64 << 10
  public private(set) var changesElsewhere = 0

  /// `namespace` is a descriptor of a network namespace; nil is that of the calling thread.
  public init(table: String = "margay", namespace: CInt? = nil) throws(NetlinkError) {
    self.table = table
    socket = try NetlinkSocket(.netfilter, namespace: namespace)
    monitor = try NetlinkSocket(.netfilter, groups: [RulesetMessageType.group], namespace: namespace, bufferOctets: 1 << 20)
  }

  public var descriptor: CInt { monitor.descriptor.borrowed }
  /// Our address, which the kernel names as the table's owner.
  public var port: UInt32 { socket.port }

  public func takeNotifications() -> Bool {
    var foreign = false
    var elsewhere = 0
    let table = table
    let own = socket.port
    let reception = monitor.receive { header, body in
      guard header.port != own, header.type >> 8 == 10, header.type != RulesetMessageType.newGeneration else { return }
      if let about = try? RulesetReading.table(&body), about.family == RulesetMessageType.familyInet, about.name == table {
        foreign = true
      } else {
        elsewhere += 1
      }
    }
    changesElsewhere += elsewhere
    return foreign || reception == .overrun
  }

  private func generation() throws(RulesetError) -> UInt32 {
    var batch = NetlinkBatch()
    batch.add(type: RulesetMessageType.getGeneration, flags: .acknowledge) { $0.zeros(4) }
    var generation: UInt32 = 0
    do throws(NetlinkError) {
      let results = try socket.request(&batch, what: "read the ruleset's generation") { header, body in
        if header.type == RulesetMessageType.newGeneration { generation = (try? RulesetReading.generation(body: &body).id) ?? 0 }
      }
      if let error = results[0] { throw error }
    } catch {
      throw RulesetError(error)
    }
    return generation
  }

  // MARK: Writing

  public func commit(_ mutations: [RulesetMutation]) throws(RulesetError) {
    guard !mutations.isEmpty else { return }
    let transaction = RulesetTransaction(table: table, mutations)
    guard transaction.batch.octetCount > Self.largeOctets else { return try send(transaction, mutations) }
    let before = try? generation()
    _ = monitor.listen(to: RulesetMessageType.group, false)
    defer {
      if !monitor.listen(to: RulesetMessageType.group, true) { hasMissedNotifications = true }
      // Read behind the joining, so that nothing falls between.
      if let before, let now = try? generation(), now == before &+ 1 {} else { hasMissedNotifications = true }
    }
    try send(transaction, mutations)
  }

  /// A kernel that cannot tell (nohz_full) lets us go on at once.
  public func waitForPackets() { _ = cl_wait_for_packets() }

  private func send(_ transaction: consuming RulesetTransaction, _ mutations: [RulesetMutation]) throws(RulesetError) {
    let origins = transaction.origins
    let results: [NetlinkError?]
    do throws(NetlinkError) {
      results = try socket.request(&transaction.batch, what: "ruleset transaction")
    } catch {
      throw RulesetError(error)
    }
    // The kernel goes on behind the first error to name more of them; the first is the cause. Of the others only those count that are
    // about their own message: what does not exist, or has become too much, may follow from the first.
    guard let first = results.indices.first(where: { results[$0] != nil }), let error = results[first] else { return }
    let refused = results.indices.filter { $0 == first || results[$0].map { $0.code == EINVAL || $0.code == EOPNOTSUPP } ?? false }
    let what = origins[first].map { mutations[$0].description } ?? "ruleset transaction"
    throw RulesetError(
      code: error.code, what: "table inet \(table): \(what)", message: error.message, refused: refused.compactMap { origins[$0] })
  }

  // MARK: Reading

  public func present(_ tables: [ForeignTable]) throws(RulesetError) -> [ForeignTable] {
    do throws(NetlinkError) {
      let found = try socket.dump(type: RulesetMessageType.getTable, what: "read tables", body: { $0.zeros(4) }) {
        _, body throws(WireError) in
        try RulesetReading.table(&body)
      }
      return tables.filter { table in found.contains { $0.family == table.family && $0.name == table.name } }
    } catch {
      throw RulesetError(error)
    }
  }

  public func read() throws(RulesetError) -> KernelRuleset? {
    hasMissedNotifications = false
    // Each dump is whole in itself; that all of them belong together, the generation tells.
    for _ in 0..<50 {
      let before = try generation()
      let ruleset: KernelRuleset?
      do throws(NetlinkError) {
        ruleset = try readOnce()
      } catch {
        // A set that went between two dumps.
        if error.code == ENOENT, try generation() != before { continue }
        throw RulesetError(error)
      }
      if try generation() == before { return ruleset }
    }
    throw RulesetError(code: EAGAIN, what: "read table inet \(table)", message: "it keeps changing")
  }

  private func readOnce() throws(NetlinkError) -> KernelRuleset? {
    typealias T = RulesetMessageType
    let table = table
    func head(_ writer: inout OctetWriter) {
      writer.u8(T.familyInet)
      writer.zeros(3)
    }
    let tables = try socket.dump(type: T.getTable, what: "read tables", body: head) { _, body throws(WireError) in
      try RulesetReading.table(body: &body)
    }
    guard let found = tables.first(where: { $0.name == table }) else { return nil }
    var ruleset = KernelRuleset(flags: found.flags, owner: found.owner)

    let chains = try socket.dump(type: T.getChain, what: "read chains", body: head) { _, body throws(WireError) in
      try RulesetReading.chain(body: &body)
    }
    for item in chains where item.table == table { ruleset.chains[item.name] = item.chain }

    func ours(_ writer: inout OctetWriter) {
      head(&writer)
      writer.attribute(1, text: table)
    }
    let rules = try socket.dump(type: T.getRule, what: "read rules of table inet \(table)", body: ours) { _, body throws(WireError) in
      try RulesetReading.rule(body: &body)
    }
    for item in rules where item.table == table { ruleset.chains[item.chain]?.rules.append(item.rule) }

    let sets = try socket.dump(type: T.getSet, what: "read sets of table inet \(table)", body: ours) { _, body throws(WireError) in
      try RulesetReading.set(body: &body)
    }
    for item in sets where item.table == table {
      let batches = try socket.dump(
        type: T.getElement, what: "read elements of set \(item.name)",
        body: {
          ours(&$0)
          $0.attribute(2, text: item.name)
        }
      ) { _, body throws(WireError) in try RulesetReading.elements(body: &body) }
      var set = item.set
      set.elements = RulesetReading.join(batches.flatMap { $0 }, flags: set.flags)
      ruleset.sets[item.name] = set
    }
    return ruleset
  }
}
