/// What happened to packets, told to whoever asks: who was denied what, and by which rule.
///
/// The kernel says which rule dropped a packet; the same flow again within a moment is one record with a count. Lines of the log are few
/// whatever happens: each second at most `linesMax`, and how many were left out. The last records are kept for who comes later.
import Addresses
import FlowReader
import FlowVerdicts
import HostPlans
import JSON
import Logging
import Names
import NetlinkEdge
import PolicyRendering
import Resources
import Sockets

struct FlowRecord: Hashable {
  enum Verdict: String { case allowed, denied }
  /// Of an allowed connection: whether this is its beginning or its end.
  enum Moment: String { case begun, ended }
  var time: UTCTime
  var verdict: Verdict
  var direction: Direction
  var flow: Flow
  /// Local workloads by name.
  var from: String?
  var to: String?
  var packets: Int
  var octets: Int
  var tier: String?
  var policy: ResourceKey?
  /// As people count, from 1.
  var rule: Int?
  /// What decided, in words.
  var reason: String
  var moment: Moment?

  var document: JSONValue {
    func end(_ name: String?, _ address: IPAddress) -> JSONValue {
      var end: JSONValue = ["address": .string("\(address)")]
      end["name"] = name.map(JSONValue.string)
      return end
    }
    var document: JSONValue = [
      "time": .string(time.text), "verdict": .string(verdict.rawValue), "direction": .string(direction.rawValue), "from": end(from, flow.source),
      "to": end(to, flow.destination), "protocol": .string("\(flow.ipProtocol)"),
    ]
    document["port"] = flow.destinationPort.map { .integer(Int64($0)) }
    document["icmpType"] = flow.icmpType.map { .integer(Int64($0)) }
    document["packets"] = .integer(Int64(packets))
    document["bytes"] = .integer(Int64(octets))
    document["tier"] = tier.map(JSONValue.string)
    if let policy {
      document["kind"] = .string(policy.kind.rawValue)
      document["namespace"] = policy.namespace.map(JSONValue.string)
      document["policy"] = .string(policy.name)
    }
    document["rule"] = rule.map { .integer(Int64($0)) }
    document["reason"] = .string(reason)
    document["moment"] = moment.map { .string($0.rawValue) }
    return document
  }
}

final class FlowLog {
  /// Flows of one moment, records kept, lines of the log in a second.
  static let flowsMax = 2_000
  static let recordsMax = 1_000
  static let linesMax = 5
  static let moment = Duration.milliseconds(100)

  private struct Key: Hashable {
    var prefix: String
    var flow: Flow
  }
  private let loop: EventLoop
  private let log: Logger
  private let reader: DropReader?
  /// Why drops are not named, if they are not.
  private(set) var problem: String?
  private var pending: [Key: (packets: Int, octets: Int)] = [:]
  private var tick: EventLoop.TimerHandle?
  private(set) var records: [FlowRecord] = []
  /// Packets that were read and belong to no record: too many flows in one moment.
  private(set) var unrecorded = 0
  private var isListenedTo = false
  private var isConfigured = false
  private var reading: Task<Void, Never>?
  private let namespace: NetworkNamespace?
  private var lines = (second: Int64(0), written: 0, left: 0)
  private var plan: () -> HostPlan = { HostPlan() }
  private var names: [IPAddress: String]?
  /// Called with each batch of new records.
  var onRecords: (([FlowRecord]) -> Void)?

  init(loop: EventLoop, namespace: NetworkNamespace?, log: Logger) {
    self.loop = loop
    self.log = log
    self.namespace = namespace
    do throws(NetlinkError) {
      reader = try DropReader(groups: FlowPrefix.groups.values.sorted(), namespace: namespace?.descriptor.borrowed)
    } catch {
      reader = nil
      problem = error.code == 16 ? "another process listens to nfnetlink_log groups 1 and 2; drops are not named here" : "\(error)"
      log.warning("drops are counted, but not named: \(problem!)")
    }
  }

  /// `plan`: what is in force, for names.
  func start(_ plan: @escaping () -> HostPlan) throws {
    self.plan = plan
    guard let reader else { return }
    try loop.add(descriptor: reader.descriptor, interest: .read) { [unowned self] _ in receive() }
  }

  var counts: DropReader.Counts { reader?.counts ?? DropReader.Counts() }

  var status: JSONValue {
    [
      "told": .integer(Int64(counts.packets)), "lost": .integer(Int64(counts.lost + unrecorded)), "floods": .integer(Int64(counts.overruns)),
      "problem": problem.map { .string($0) } ?? nil,
    ]
  }

  private func receive() {
    reader?.receive { packet in
      // A client takes another source port for each attempt.
      var flow = packet.flow
      flow.sourcePort = nil
      let key = Key(prefix: packet.prefix, flow: flow)
      if let sum = pending[key] {
        pending[key] = (sum.packets + 1, sum.octets + packet.octets)
      } else if pending.count < Self.flowsMax {
        pending[key] = (1, packet.octets)
      } else {
        unrecorded += 1
      }
    }
    guard tick?.isPending != true else { return }
    tick = loop.schedule(after: Self.moment) { [unowned self] in flush() }
  }

  private func flush() {
    do throws(NetlinkError) { try reader?.renew() } catch {
      log.error("listening to the kernel's drops again: \(error)")
      tick = loop.schedule(after: .seconds(1)) { [unowned self] in flush() }
    }
    let sums = pending
    pending = [:]
    guard !sums.isEmpty else { return }
    let plan = plan()
    let now = UTCTime.now()
    append(sums.map { key, sum in record(key, sum.packets, sum.octets, now, plan) })
  }

  private func append(_ new: [FlowRecord]) {
    // Endpoints may change until the next ones.
    names = nil
    let new = new.sorted { ($0.packets, $0.reason) > ($1.packets, $1.reason) }
    records += new
    if records.count > Self.recordsMax { records.removeFirst(records.count - Self.recordsMax) }
    for record in new where record.verdict == .denied { write(record) }
    onRecords?(new)
  }

  private func write(_ record: FlowRecord) {
    if lines.second != record.time.unixSeconds {
      if lines.left > 0 { log.notice("denied: \(lines.left) more flows within a second; margay flows shows them") }
      lines = (record.time.unixSeconds, 0, 0)
    }
    guard lines.written < Self.linesMax else {
      lines.left += 1
      return
    }
    lines.written += 1
    log.notice("denied: \(record.words)")
  }

  // MARK: Allowed connections

  /// Whether allowed connections are told of: somebody listens, or FelixConfiguration asks (`flowLogsLocalReporter: Enabled`).
  func tellAllowed(listening: Bool? = nil, configured: Bool? = nil) {
    isListenedTo = listening ?? isListenedTo
    isConfigured = configured ?? isConfigured
    let isWanted = isListenedTo || isConfigured
    guard isWanted != (reading != nil) else { return }
    reading?.cancel()
    reading = isWanted ? follow() : nil
  }

  private func follow() -> Task<Void, Never> {
    let mailbox = loop.mailbox
    let (namespace, log) = (namespace, log)
    nonisolated(unsafe) let onLoop = self
    return Task.detached {
      do {
        _ = try (namespace.map { try $0.ensureSysctl("1", "netfilter/nf_conntrack_acct") } ?? Sysctls.ensure("1", "netfilter/nf_conntrack_acct"))
      } catch { log.notice("allowed connections are told of without their octets: \(error)") }
      var flows = AllowedFlows()
      while !Task.isCancelled {
        let plan = await withCheckedContinuation { continuation in mailbox.post { unsafe continuation.resume(returning: onLoop.plan()) } }
        let began = MonotonicInstant.now
        do throws(NetlinkError) {
          let changes = try flows.read(plan, namespace: namespace)
          if !changes.begun.isEmpty || !changes.ended.isEmpty { mailbox.post { unsafe onLoop.take(changes) } }
        } catch { log.error("reading connection tracking: \(error)") }
        // At most a tenth of a processor.
        try? await Task.sleep(for: max(.seconds(1), (.now - began) * 9))
      }
    }
  }

  private func take(_ changes: FlowChanges) {
    let plan = plan()
    let now = UTCTime.now()
    func record(_ item: (flow: TrackedFlow, verdict: PlanVerdict), _ moment: FlowRecord.Moment) -> FlowRecord {
      let flow = item.flow.flow
      var record = FlowRecord(
        time: now, verdict: .allowed, direction: item.verdict.direction, flow: flow, from: name(of: flow.source, plan),
        to: name(of: flow.destination, plan), packets: Int(clamping: item.flow.packets), octets: Int(clamping: item.flow.octets), reason: "")
      if case .rule(let key, let index) = item.verdict.place {
        record.policy = key
        record.rule = index + 1
        record.tier = key.kind == .profile ? nil : plan.policies[key]?.tier
        record.reason = "\(key) rule \(index + 1)"
      }
      record.moment = moment
      return record
    }
    append(changes.begun.map { record($0, .begun) } + changes.ended.map { record($0, .ended) })
  }

  // MARK: Reading a prefix

  private func name(of address: IPAddress, _ plan: HostPlan) -> String? {
    if names == nil {
      names = [:]
      for (key, endpoint) in plan.endpoints {
        let parts = try? WorkloadEndpointName(parsing: key.name)
        let name = parts.map { "\(key.namespace ?? "")/\($0.workload)" } ?? key.qualifiedName
        for address in endpoint.addresses { names![address] = name }
      }
    }
    return names![address]
  }

  private func record(_ key: Key, _ packets: Int, _ octets: Int, _ time: UTCTime, _ plan: HostPlan) -> FlowRecord {
    let prefix = FlowPrefix(key.prefix)
    var record = FlowRecord(
      time: time, verdict: .denied, direction: prefix?.direction ?? .ingress, flow: key.flow, from: name(of: key.flow.source, plan),
      to: name(of: key.flow.destination, plan), packets: packets, octets: octets, reason: key.prefix)
    switch prefix?.place {
    case .rule(let id, let index):
      record.policy = Self.key(id, plan)
      record.rule = index + 1
      record.tier = record.policy.flatMap { $0.kind == .profile ? nil : plan.policies[$0]?.tier }
      let rules = record.policy.flatMap { plan.policies[$0] }.map { prefix!.direction == .ingress ? $0.ingress : $0.egress } ?? []
      let fault = rules.enumerated().first { ($0.element.place ?? $0.offset) == index }?.element.fault
      record.reason = "\(record.policy?.description ?? id) rule \(index + 1)" + (fault.map { ", which cannot be enforced: \($0)" } ?? "")
    case .endOfTier(let tier):
      record.tier = tier
      record.reason = "end of tier \(tier)"
    case .endOfProfiles: record.reason = "no profile allows"
    case .missing(let id):
      record.policy = Self.key(id, plan)
      record.reason = "\(record.policy?.description ?? id) does not exist"
    case .frame(let words): record.reason = words
    case nil: break
    }
    return record
  }

  /// The policy or profile of an id; one that the plan has, if the id is a shortened name.
  static func key(_ id: String, _ plan: HostPlan) -> ResourceKey? {
    if id.contains("~"), let key = plan.policies.keys.first(where: { FlowPrefix.id($0) == id }) { return key }
    let parts = id.split(separator: "/", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { return nil }
    switch parts[0] {
    case "pro": return ResourceKey(.profile, name: parts[1])
    case "gnp": return ResourceKey(.globalNetworkPolicy, name: parts[1])
    case "np":
      guard let slash = parts[1].firstIndex(of: "/") else { return nil }
      return ResourceKey(.networkPolicy, namespace: String(parts[1][..<slash]), name: String(parts[1][parts[1].index(after: slash)...]))
    default: return nil
    }
  }
}

extension FlowRecord {
  /// `TCP shop/client-1 (10.65.0.7) → shop/web-1 (10.65.1.2) port 81, 3 packets: NetworkPolicy shop/web rule 2`
  var words: String {
    func end(_ name: String?, _ address: IPAddress) -> String { name.map { "\($0) (\(address))" } ?? "\(address)" }
    var text = "\(flow.ipProtocol) \(end(from, flow.source)) → \(end(to, flow.destination))"
    if let port = flow.destinationPort { text += " port \(port)" }
    if let type = flow.icmpType { text += " type \(type)" }
    return text + ", \(packets) packet\(packets == 1 ? "" : "s"), \(direction.rawValue.lowercased()): \(reason)"
  }
}
