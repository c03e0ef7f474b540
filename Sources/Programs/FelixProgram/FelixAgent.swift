/// Felix on its loop's thread: datastore events and observations in, plan changes through the drivers into the kernel.
///
/// The order of one round is the list in `apply()`: what protects comes before what opens. Everything here runs on one thread.
import AddressAssignment
import Addresses
import Calculation
import CNIServer
import Datastore
import HostPlans
import JSON
import LinkDriver
import Logging
import NetlinkEdge
import NetlinkMessages
import PolicyRendering
import Resources
import RouteDriver
import RulesetDriver
import Sockets

final class FelixAgent {
  private let node: String
  private let loop: EventLoop
  private let log: Logger
  private let readiness: ReadinessBoard

  private var calculation: HostCalculation
  private var plan = HostPlan()
  private var renderer = PolicyRenderer()
  private let ruleset: RulesetDriver
  private let routes: RouteDriver
  private let links: LinkDriver
  private let monitor: RouteMonitor
  private let flows = FlowMemory(namespace: nil)
  private var holders = AddressHolders()

  private var isRoundDue = false
  private var isInSync = false
  private var isHostPrepared = false
  /// Of the last batch received, and of the last that went through the kernel.
  private var received = Revision.zero
  private var applied = Revision.zero
  private var datastoreProblem: String?
  private var unreadable: [ResourceKey: String] = [:]
  private var problems: [String] = []
  private var rounds = 0
  /// Objects of our table that were changed since the start; taking over the last run's table changes none.
  private var rulesetChanges = 0
  private var areRulesRight = false
  private let startedAt = MonotonicInstant.now
  private var retry: EventLoop.TimerHandle?
  private static let resyncInterval = Duration.seconds(90)

  init(node: String, loop: EventLoop, readiness: ReadinessBoard, log: Logger) throws {
    self.node = node
    self.loop = loop
    self.readiness = readiness
    self.log = log
    calculation = HostCalculation(node: node)
    // The monitor listens before anything is read, so that no change falls between.
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.routes)
    let netlink = try RouteNetlink()
    ruleset = try RulesetDriver()
    routes = RouteDriver(netlink: netlink, protocol: .felix, ownedInterfacePrefixes: ["cali"], deletionGrace: .seconds(10))
    links = LinkDriver(netlink: netlink)
    try routes.resync()
    try links.resync()
    try loop.add(descriptor: monitor.descriptor, interest: .read) { [unowned self] _ in observe() }
    try loop.add(descriptor: ruleset.descriptor, interest: .read) { [unowned self] _ in observeRuleset() }
    links.onTransition = { [unowned self] transition in
      log.info("interface \(transition)")
      round()
    }
    scheduleResync()
  }

  // MARK: Inputs

  func receive(_ events: [FeedEvent]) {
    for event in events {
      switch event {
      case .resource(let key, let stored):
        unreadable[key] = nil
        holders.note(key, stored?.resource)
        calculation.receive(.resource(key, stored?.resource))
      case .unreadable(let key, let reason):
        // Its last good version stays; what the calculation never saw, it cannot enforce, and the status says so.
        unreadable[key] = reason
        log.error("\(reason)")
      case .raw(let key, let value):
        if let part = key.split(separator: "/").last, let cidr = AddressBook.cidr(keyPart: part) {
          let isOurs = value.map { AddressBook.isConfirmed(affinity: $0) } ?? false
          calculation.receive(.block(cidr, isOurs ? BlockFact(affinity: node) : nil))
        }
      case .inSync:
        isInSync = true
        calculation.receive(.inSync)
        log.info("in sync with the datastore")
      case .revision(let revision): received = revision
      case .connection(let problem):
        datastoreProblem = problem
        if let problem {
          log.error("\(problem); the kernel keeps its last good state")
        } else {
          log.info("the datastore answers again")
        }
      }
    }
    round()
  }

  private func observe() {
    let reception = monitor.receive { event in
      links.handle(event)
      routes.handle(event)
    }
    if reception == .overrun { resyncLinksAndRoutes() }
    round()
  }

  private func observeRuleset() {
    do {
      guard let repaired = try ruleset.receive() else { return }
      count(repaired)
      log.warning("our nftables table was changed by somebody else", metadata: ["repaired": "\(repaired)"])
    } catch {
      log.error("repairing our nftables table: \(error)")
      again(after: .seconds(1))
    }
  }

  private func count(_ report: ApplyReport) {
    rulesetChanges += report.mutations
    if report.mutations > 0 { log.debug("nftables: \(report)") }
  }

  private func resyncLinksAndRoutes() {
    do {
      try links.resync()
      try routes.resync()
    } catch {
      log.error("reading links and routes back: \(error)")
    }
  }

  private func scheduleResync() {
    loop.schedule(after: Self.resyncInterval) { [unowned self] in
      resyncLinksAndRoutes()
      do { count(try ruleset.resync()) } catch { log.error("reading the ruleset back: \(error)") }
      round()
      scheduleResync()
    }
  }

  /// One round for everything that has arrived when the loop comes to it.
  private func round() {
    guard !isRoundDue else { return }
    isRoundDue = true
    loop.schedule(after: .zero) { [unowned self] in
      isRoundDue = false
      apply()
    }
  }

  // MARK: One round

  private func apply() {
    guard isInSync else { return }
    rounds += 1
    problems = []
    let revision = received
    let changes = calculation.flush()
    plan.apply(changes)
    let rules = renderer.apply(changes)

    // 1. The host forwards and answers as a router.
    if !isHostPrepared { attempt("host settings") { _ = try links.prepareHost(); isHostPrepared = true } }
    // 2. What the links and routes shall be, before anything is opened.
    want(changes)
    // 3. Rules: one transaction. Until it is committed, nothing below opens a path.
    areRulesRight = attempt("nftables") {
      // A delta that the kernel refuses stays the driver's wish: the next round tries again.
      count(try ruleset.apply(rules))
    }
    guard areRulesRight else {
      again(after: .seconds(1))
      post(revision)
      return
    }
    // 4. Interfaces, neighbours, then the routes over them.
    attempt("interfaces") { problems += try links.apply().problems.map(\.description) }
    attempt("routes") {
      let report = try routes.apply()
      problems += report.problems.map(\.description)
      if let next = report.again { again(after: next - .now) }
    }
    // 5. An address that its workload gave up, here or on another host, takes its flows along: established traffic is accepted
    //    before policy is asked, so whoever gets the address next must inherit none.
    let gone = holders.takeGone()
    if !gone.isEmpty {
      // A walk through connection tracking takes milliseconds: not on this thread.
      Task.detached { [flows, log] in
        do { try await flows.forget(gone) } catch { log.error("forgetting the flows of \(gone): \(error)") }
      }
    }
    applied = revision
    post(revision)
  }

  @discardableResult
  private func attempt(_ what: String, _ work: () throws -> Void) -> Bool {
    do {
      try work()
      return true
    } catch {
      problems.append("\(what): \(error)")
      log.error("\(what): \(error)")
      return false
    }
  }

  private func again(after delay: Duration) {
    retry?.cancel()
    retry = loop.schedule(after: max(delay, .milliseconds(10))) { [unowned self] in round() }
  }

  private var interfaceOf: [ResourceKey: String] = [:]

  private func want(_ changes: [HostPlanChange]) {
    for change in changes {
      switch change {
      case .endpoint(let key, let endpoint):
        if let old = interfaceOf[key], old != endpoint.interfaceName { links.want(nil, for: old) }
        interfaceOf[key] = endpoint.interfaceName
        links.want(
          WorkloadLink(name: endpoint.interfaceName, mac: endpoint.mac, addresses: endpoint.addresses), for: endpoint.interfaceName)
      case .endpointRemoved(let key):
        guard let name = interfaceOf.removeValue(forKey: key) else { continue }
        if !interfaceOf.values.contains(name) { links.want(nil, for: name) }
      case .route(let prefix, .workload(let name)): routes.want(.device(name), for: prefix)
      case .route(let prefix, .blackhole): routes.want(.blackhole, for: prefix)
      case .routeRemoved(let prefix): routes.want(nil, for: prefix)
      default: break
      }
    }
  }

  // MARK: Telling

  private func progress(_ endpoint: EndpointPlan, _ revision: Revision) -> ReadinessBoard.Progress {
    let standing = Set(routes.standing.map(\.destination))
    let missing = endpoint.addresses.filter { !standing.contains($0.hostPrefix) }
    let isLinkReady = links.isReady(endpoint.interfaceName)
    var problem: String?
    if !areRulesRight {
      problem = "the rules are not in the kernel"
    } else if links.link(named: endpoint.interfaceName) == nil {
      problem = "interface \(endpoint.interfaceName) does not exist"
    } else if !isLinkReady {
      problem = "interface \(endpoint.interfaceName) is not ready"
    } else if let address = missing.first {
      problem = "the route to \(address) is missing"
    }
    return ReadinessBoard.Progress(
      revision: revision.rawValue, addresses: Set(endpoint.addresses), isProtected: areRulesRight,
      isProgrammed: problem == nil, problem: problem)
  }

  private func post(_ revision: Revision) {
    readiness.post(plan.endpoints.mapValues { progress($0, areRulesRight ? revision : applied) })
  }

  func status() -> JSONValue {
    let endpoints = plan.endpoints.sorted { $0.key < $1.key }.map { key, endpoint -> JSONValue in
      let progress = progress(endpoint, applied)
      return [
        "name": .string(key.qualifiedName), "interface": .string(endpoint.interfaceName),
        "addresses": .array(endpoint.addresses.map { .string($0.description) }),
        "state": .string(progress.isProgrammed ? "up" : "pending"),
        "problem": progress.problem.map { .string($0) } ?? nil,
        "profiles": .array(endpoint.profiles.map { .string($0) }),
      ]
    }
    let findings = calculation.findings.merging(unreadable) { $1 }.sorted { $0.key < $1.key }
    return [
      "node": .string(node), "inSync": .bool(isInSync && areRulesRight), "revision": .integer(applied.rawValue),
      "datastore": datastoreProblem.map { .string($0) } ?? "connected",
      "uptimeSeconds": .integer((MonotonicInstant.now - startedAt).components.seconds),
      "rounds": .integer(Int64(rounds)), "kernelChanges": .integer(Int64(rulesetChanges + NetlinkStatistics.mutations(.route) + Sysctls.writes)),
      "policies": .integer(Int64(plan.policies.count)), "ipSets": .integer(Int64(plan.ipSets.count)),
      "endpoints": .array(endpoints), "problems": .array(problems.map { .string($0) }),
      "findings": .array(findings.map { ["object": .string($0.key.description), "finding": .string($0.value)] }),
    ]
  }
}
