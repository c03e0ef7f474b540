/// Felix on its loop's thread: datastore events and observations in, plan changes through the drivers into the kernel.
///
/// The order of one round is the list in `apply()`: what protects comes before what opens. Everything here runs on one thread, and a
/// round costs what changed, not what the host holds.
///
/// Hazards and the answers:
/// - Before the first complete picture of the datastore nothing is known to be wrong, so nothing is touched: an agent that starts while
///   the datastore is away leaves the kernel as its predecessor did.
/// - The kernel refuses something: what is wanted stays wanted, and a round follows within a second.
/// - An address leaves an endpoint, here or on another host: its flows are forgotten here once rules and routes have changed, or its
///   next holder would inherit them. A workload that moves takes its address along, and keeps its flows but for those that no longer pass
///   its old host.
/// - Two hosts have one address while a workload moves: the host where it arrives gives its route the metric that BGP prefers everywhere.
import AddressAssignment
import Addresses
import Calculation
import CNIServer
import Datastore
import FelixSettings
import FlowReader
import HealthServer
import HostPlans
import JSON
import LinkDriver
import Logging
import MetricsText
import Names
import NetlinkEdge
import NetlinkMessages
import PolicyRendering
import Resources
import RouteDriver
import RulesetDriver
import Rulesets
import Sockets
import TrafficDriver
import TunnelDriver

final class FelixAgent {
  let node: String
  private let loop: EventLoop
  let log: Logger
  private let readiness: ReadinessBoard
  private let namespace: NetworkNamespace?

  var calculation: HostCalculation
  private var policyMemory = PolicyMemory()
  private(set) var plan = HostPlan()
  private(set) var renderer: PolicyRenderer
  private let netlink: RouteNetlink
  private let ruleset: RulesetDriver
  private let routing: HostRouting
  private var routes: RouteDriver { routing.routes }
  private var links: LinkDriver { routing.links }
  private let monitor: RouteMonitor
  private let flows: FlowMemory
  private let otherTables: OtherTablesWatch
  let flowLog: FlowLog
  let tightening: Tightening
  let ruleMetrics: RuleMetrics

  private var isRoundDue = false
  private(set) var isInSync = false
  private var isHostPrepared = false
  private var isRulesetWatched = false
  /// Of the last batch received, and of the last that went through the kernel.
  private var received = Revision.zero
  private(set) var applied = Revision.zero
  private(set) var datastoreProblem: String?
  var addDatastoreMetrics: (inout MetricsPage) -> Void = { _ in }
  private var unreadable: [ResourceKey: String] = [:]
  private(set) var problems: [String] = []
  private(set) var rounds = 0
  /// Objects of our table, interfaces and routes that were changed since the start; a restart over a right kernel changes none.
  private(set) var kernelChanges = 0
  private(set) var areRulesRight = false
  private(set) var counts = AgentCounts()
  let startedAt = MonotonicInstant.now
  private var retry: EventLoop.TimerHandle?
  let refreshing: Refreshing
  var settingsTold: SettingsResolution?
  /// Called at the end of each round.
  var onRound: (() -> Void)?
  /// Called when a setting has changed, and in the first round.
  var onSettings: ((SettingsResolution) -> Void)?
  /// Called with every end of a tunnel that needs an address, whenever that changes and once in sync.
  var onTunnelDemands: (([TunnelKind: TunnelDemand]) -> Void)?
  private var areDemandsNew = true
  /// Takes what is told to the datastore.
  var reporter: StatusReporter?
  var hostFiles: HostFiles? { didSet { hostFiles?.adopt(settings) } }
  /// What goes wrong beside the agent, on this host.
  var otherProblems: () -> [String] = { [] }

  // Who is where.
  private var endpointOf: [String: ResourceKey] = [:]
  private var endpointByIndex: [UInt32: ResourceKey] = [:]
  private(set) var holders = AddressHolders()
  private var movedAway: Set<IPAddress> = []

  // What is known of each endpoint's way into the kernel.
  private(set) var progress: [ResourceKey: ReadinessBoard.Progress] = [:]
  private var touched: Set<ResourceKey> = []
  private var pending: Set<ResourceKey> = []
  /// Endpoints whose status is to be told again.
  private var untold: Set<ResourceKey> = []
  /// Rounds in a row whose rules the kernel refused. One refusal may pass by itself within a second: not worth a word of every endpoint.
  private var refusals = 0
  private var isRefusalTold = false
  private var isSecondAgent = false
  private var hostReport: EventLoop.TimerHandle?
  /// Since when each trouble is known, by its text.
  private var troubleSince: [String: UTCTime] = [:]

  /// `namespace` is that of the host; nil is the calling thread's. `resyncInterval`: how often everything is read back against drift
  /// that nobody tells of, where no setting says so. `localSettings`: what this host says itself, weakest first. `isTableOwned` false: the
  /// nftables table is made as on a kernel that cannot keep others from editing it.
  init(
    node: String, loop: EventLoop, readiness: ReadinessBoard, namespace: NetworkNamespace? = nil,
    resyncInterval: Duration? = nil, localSettings: [SettingsLayer] = [], isTableOwned: Bool = true, log: Logger
  ) throws {
    self.node = node
    self.loop = loop
    self.readiness = readiness
    self.log = log
    self.namespace = namespace
    refreshing = Refreshing(loop: loop, everything: resyncInterval)
    calculation = HostCalculation(node: node)
    calculation.localSettings = localSettings
    // The monitor listens before anything is read, so that no change falls between.
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.routes + RouteMonitor.neighboursAndSettings, namespace: namespace)
    netlink = try RouteNetlink(namespace: namespace)
    ruleset = try RulesetDriver(namespace: namespace?.descriptor.borrowed, flags: isTableOwned ? [.owner, .persist] : [], log: log)
    flows = FlowMemory(namespace: namespace)
    routing = HostRouting(netlink, namespace)
    otherTables = OtherTablesWatch(loop, namespace, log: log)
    renderer = PolicyRenderer(tellsDrops: DropReader.isAvailable(namespace: namespace?.descriptor.borrowed))
    ruleMetrics = RuleMetrics(namespace: namespace, log: log)
    tightening = Tightening(namespace: namespace, log: log)
    flowLog = FlowLog(loop: loop, namespace: namespace, log: log)
    try resyncDrivers()
    try loop.add(descriptor: monitor.descriptor, interest: .read) { [unowned self] _ in observe() }
    refreshing.refresh = { [unowned self] part in refresh(part) }
    refreshing.adopt(settings)
    try flowLog.start { [unowned self] in plan }
  }

  private func resyncDrivers() throws {
    links.onTransition = { [unowned self] transition in log.info("interface \(transition)") }
    try routing.resync()
  }

  // MARK: Inputs

  func receive(_ events: [FeedEvent]) {
    for case .resource(let key, let stored) in events where key.kind == .tier { policyMemory.note(tier: key.name, exists: stored != nil) }
    counts.receive(events)
    hostFiles?.note(events)
    for event in events {
      switch event {
      case .resource(let key, let stored):
        holders.note(key, stored?.resource)
        take(policyMemory.readable(key, stored?.resource), of: key)
      case .unreadable(let key, let reason): take(policyMemory.unreadable(key, reason: reason), of: key)
      case .raw(let key, let value):
        if let (cidr, fact) = BlockReading.read(key, value) {
          calculation.receive(.block(cidr, fact))
        } else {
          log.error("block \(key) cannot be read; what was known of it before stays")
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

  private func take(_ answer: PolicyMemory.Answer, of key: ResourceKey) {
    if let input = answer.input { calculation.receive(input) }
    unreadable[key] = answer.finding
  }

  private func observe() {
    if hear() || !touched.isEmpty { round() }
  }

  /// Takes what the kernel has told. False if all of it was about routes of others.
  @discardableResult
  private func hear() -> Bool {
    var isConcerned = false
    let reception = monitor.receive { event in
      if !isConcerned { isConcerned = routes.isConcerned(by: event) }
      touch(event)
      routing.handle(event)
      hostFiles?.note(event)
    }
    guard reception == .overrun else { return isConcerned }
    resyncLinksAndRoutes()
    return true
  }

  private func touch(_ event: RouteNetlinkEvent) {
    func touch(_ key: ResourceKey?) { if let key { touched.insert(key) } }
    switch event {
    case .link(let link), .linkRemoved(let link):
      touch(endpointOf[link.name])
      // By the name it had.
      touch(endpointByIndex[link.index])
    case .address(let address), .addressRemoved(let address): touch(endpointByIndex[address.interface])
    case .route(let route), .routeRemoved(let route): touch(holder(of: route.destination))
    case .neighbour(let neighbour), .neighbourRemoved(let neighbour): touch(endpointByIndex[neighbour.interface])
    case .settings(let settings):
      if case .interface(let index) = settings.scope { touch(endpointByIndex[index]) }
      if settings.scope == .all, settings.isForwarding == false { isHostPrepared = false }
    case .forwarding, .forwardingRemoved: break
    }
  }

  /// The local endpoint that the route to `prefix` leads to.
  private func holder(of prefix: IPPrefix) -> ResourceKey? {
    if case .workload(let name)? = plan.routes[prefix] { endpointOf[name] } else { nil }
  }

  private func observeRuleset() {
    let before = ruleset.changesElsewhere
    do {
      let repaired = try ruleset.receive()
      if ruleset.changesElsewhere != before { otherTables.lookSoon(prefixes: links.settings.interfacePrefixes) }
      guard let repaired else { return }
      areRulesRight = true
      count(repaired)
      log.warning("our nftables table was changed by somebody else", metadata: ["repaired": "\(repaired)"])
    } catch {
      areRulesRight = false
      log.error("repairing our nftables table: \(error)")
      again(after: .seconds(1))
    }
    post()
  }

  private func count(_ report: ApplyReport) {
    kernelChanges += report.mutations
    if report.mutations > 0 { log.debug("nftables: \(report)") }
  }

  private func resyncLinksAndRoutes() {
    touched.formUnion(plan.endpoints.keys)
    isHostPrepared = false
    do {
      try routing.resync()
    } catch {
      log.error("reading links and routes back: \(error)")
      again(after: .seconds(1))
    }
  }

  /// Everything is read back, and what differs is repaired.
  func resync() {
    resyncLinksAndRoutes()
    resyncRules()
    round()
  }

  private func resyncRules() {
    // Before the first round the driver wants an empty table.
    guard rounds > 0 else { return }
    do {
      count(try ruleset.resync())
      areRulesRight = true
    } catch {
      areRulesRight = false
      log.error("reading the ruleset back: \(error)")
    }
  }

  private func refresh(_ part: Refreshing.Part) {
    switch part {
    // Routes lead over links: what is read back of one is compared with the other.
    case .routes, .links: resyncLinksAndRoutes()
    case .rules: resyncRules()
    }
    round()
  }

  /// One round for everything that has arrived when the loop comes to it.
  func round() {
    guard !isRoundDue else { return }
    isRoundDue = true
    loop.schedule(after: .zero) { [unowned self] in
      isRoundDue = false
      apply()
      onRound?()
    }
  }

  // MARK: One round

  private func apply() {
    guard isInSync else { return }
    let began = MonotonicInstant.now
    defer { counts.roundEnded(began, areRulesRight: areRulesRight) }
    rounds += 1
    problems = []
    let revision = received
    let changes = calculation.flush()
    tellSettings()
    counts.calculated(changes.count, since: began)
    note(changes)
    plan.apply(changes)
    if let seen = routing.interfaces.takeChanged() { renderer.observe(interfaces: seen) }
    let rules = renderer.apply(changes)

    // 1. The host forwards and answers as a router.
    if !isHostPrepared {
      attempt("host settings") {
        kernelChanges += try links.prepareHost()
        isHostPrepared = true
      }
    }
    // 2. What the links and routes shall be, before anything is opened.
    want(changes)
    // 3. Rules: one transaction. Until it is committed, nothing below opens a path.
    areRulesRight = attempt("nftables") {
      if !isRulesetWatched {
        try loop.add(descriptor: ruleset.descriptor, interest: .read) { [unowned self] _ in observeRuleset() }
        isRulesetWatched = true
        otherTables.onChange = { [unowned self] in post() }
        otherTables.lookSoon(prefixes: links.settings.interfacePrefixes)
      }
      // A delta that the kernel refuses stays the driver's wish: the next round tries again.
      count(try ruleset.apply(rules))
    }
    problems += ruleset.problems
    if areRulesRight { isSecondAgent = false }
    tightening.follow(changes, plan, isCommitted: areRulesRight)
    refusals = areRulesRight ? 0 : refusals + 1
    guard areRulesRight else { return post() }
    // 4. Interfaces, neighbours, then the routes over them.
    attempt("interfaces") {
      let report = try links.apply()
      kernelChanges += report.changed
      problems += report.problems.map(\.description)
      // What does not exist or is down tells when that changes; anything else may pass by itself.
      if report.problems.contains(where: { links.link(named: $0.name)?.isUp ?? false }) { again(after: .seconds(1)) }
    }
    attempt("tunnels") {
      let report = try routing.tunnels.apply()
      kernelChanges += report.changed
      problems += report.problems.map(\.description)
      if let next = report.again { again(after: next - .now) }
      // A new interface is known to the routes over it before they are asked for.
      if report.changed > 0 { hear() }
    }
    attempt("bandwidth limits") {
      let report = try routing.traffic.apply()
      kernelChanges += report.changed
      problems += report.problems
      if !report.problems.isEmpty { again(after: .seconds(1)) }
    }
    let areRoutesRight = attempt("routes") {
      let report = try routing.applyRoutes()
      kernelChanges += report.changed
      problems += report.problems.map(\.description)
      if let next = report.again { again(after: next - .now) }
    }
    // 5. An address that its workload gave up, here or on another host, takes its flows along: established traffic is accepted
    //    before policy is asked, so whoever gets the address next must inherit none.
    let gone = areRoutesRight ? holders.takeGone() : []
    if !gone.isEmpty {
      // A walk through connection tracking takes milliseconds: not on this thread.
      Task.detached { [flows, log] in
        do { try await flows.forget(gone) } catch { log.error("forgetting the flows of \(gone): \(error)") }
      }
    }
    if areRoutesRight, !movedAway.isEmpty {
      let local = Set(plan.routes.lazy.filter { if case .workload = $0.value { true } else { false } }.map(\.key.address))
      Task.detached { [flows, log, addresses = movedAway.sorted()] in
        do {
          try await flows.forget(movedAway: addresses, butFlowsWith: local)
        } catch {
          log.error("forgetting the flows of \(addresses), which moved to another host: \(error)")
        }
      }
      movedAway = []
    }
    applied = revision
    hostFiles?.roundEnded()
    post()
  }

  /// Who is affected, before the plan changes.
  private func note(_ changes: [HostPlanChange]) {
    for change in changes {
      switch change {
      case .endpoint(let key, let endpoint):
        touched.insert(key)
        noteFloating(plan.endpoints[key]?.floating ?? [:], endpoint.floating)
      case .endpointRemoved(let key):
        touched.insert(key)
        noteFloating(plan.endpoints[key]?.floating ?? [:], [:])
      case .route(let prefix, _), .routeRemoved(let prefix), .routeHandedOver(let prefix):
        guard case .workload(let old)? = plan.routes[prefix] else { continue }
        // Also when a younger record takes an address that the older one still has.
        let key = endpointOf[old]
        if prefix.isHost, !holders.giveUp(prefix.address, by: key) { movedAway.insert(prefix.address) }
        if let key { touched.insert(key) }
      default: break
      }
    }
  }

  /// Flows go on to where a floating address led when they began: those of one that goes, and of one that comes, are forgotten.
  private func noteFloating(_ old: [IPAddress: IPAddress], _ new: [IPAddress: IPAddress]) {
    guard old != new else { return }
    for address in Set(old.keys).union(new.keys) where old[address] != new[address] { holders.giveUp(address, by: nil) }
  }

  @discardableResult
  private func attempt(_ what: String, _ work: () throws -> Void) -> Bool {
    do {
      try work()
      return true
    } catch {
      isSecondAgent = (error as? RulesetError)?.isOwnedElsewhere ?? false
      problems.append("\(what): \(error)")
      log.error("\(what): \(error)")
      again(after: .seconds(1))
      return false
    }
  }

  /// A round within `delay`, although nothing may happen until then.
  private func again(after delay: Duration) {
    let deadline = MonotonicInstant.now + max(delay, .milliseconds(10))
    if let retry, retry.isPending {
      if retry.deadline <= deadline { return }
      retry.cancel()
    }
    retry = loop.schedule(at: deadline) { [unowned self] in round() }
  }

  private func want(_ changes: [HostPlanChange]) {
    // Endpoints may swap interfaces within one batch: who leaves goes first, whatever the order of the changes.
    var names: Set<String> = []
    for change in changes {
      switch change {
      case .settings(let settings):
        adopt(settings)
        names.formUnion(endpointOf.keys)
      case .endpoint(let key, _), .endpointRemoved(let key):
        guard let name = interfaceOf.removeValue(forKey: key) else { continue }
        names.insert(name)
        if endpointOf[name] == key { endpointOf[name] = nil }
      case .tunnelDemand: areDemandsNew = true
      default: break
      }
    }
    routing.want(changes, plan)
    if areDemandsNew {
      areDemandsNew = false
      onTunnelDemands?(plan.tunnelDemands)
    }
    for case .endpoint(let key, let endpoint) in changes {
      interfaceOf[key] = endpoint.interfaceName
      endpointOf[endpoint.interfaceName] = key
      names.insert(endpoint.interfaceName)
    }
    for case .route(let prefix, .workload(let name)) in changes { routes.want(workloadRoute(name, prefix), for: prefix) }
    let converged = routing.takeConverged()
    if let next = converged.next { again(after: next - .now) }
    for address in holders.takeShifted().union(converged.over.map(\.address)) {
      if case .workload(let name)? = plan.routes[address.hostPrefix] { routes.want(workloadRoute(name, address.hostPrefix), for: address.hostPrefix) }
    }
    for name in names {
      let endpoint = endpointOf[name].flatMap { plan.endpoints[$0] }
      links.want(endpoint.map { WorkloadLink(name, $0, plan.settings) }, for: name)
      routing.traffic.want(TrafficLimits(endpoint?.qos), for: name)
    }
    // The new holder of a route is affected as well.
    for case .route(_, .workload(let name)) in changes { if let key = endpointOf[name] { touched.insert(key) } }
  }
  private var interfaceOf: [ResourceKey: String] = [:]

  private func workloadRoute(_ name: String, _ prefix: IPPrefix) -> RouteSpec {
    let isArriving = prefix.isHost && endpointOf[name].map { holders.isArriving(prefix.address, at: $0) } == true
    return routing.workloadRoute(name, prefix, isArriving: isArriving)
  }

  /// Other prefixes or families: the drivers begin anew over the same kernel, and change only what differs.
  private func adopt(_ settings: HostSettings) {
    routing.adopt(settings)
    attempt("reading links and routes back") { try resyncDrivers() }
    // Other prefixes make other interfaces the host's own.
    round()
    for (prefix, route) in plan.routes {
      switch route {
      case .workload(let name): routes.want(workloadRoute(name, prefix), for: prefix)
      default: routing.want(route, for: prefix)
      }
    }
    isHostPrepared = false
    touched.formUnion(plan.endpoints.keys)
  }

  // MARK: Telling

  private func currentProgress(_ key: ResourceKey, _ endpoint: EndpointPlan) -> ReadinessBoard.Progress {
    let link = links.link(named: endpoint.interfaceName)
    if let link { endpointByIndex[link.index] = key }
    var problem: String?
    if link == nil {
      problem = "interface \(endpoint.interfaceName) does not exist"
    } else if !links.isReady(endpoint.interfaceName) {
      problem = "interface \(endpoint.interfaceName) is \(link?.isUp == true ? "not set up yet" : "down")"
    } else if let address = endpoint.addresses.first(where: {
      plan.routes[$0.hostPrefix] != .workload(interfaceName: endpoint.interfaceName)
    }) {
      problem = "address \(address) is routed to another endpoint"
    } else if let address = endpoint.addresses.first(where: { !routing.stands($0.hostPrefix) }) {
      problem = "the route to \(address) is missing"
    }
    return ReadinessBoard.Progress(addresses: Set(endpoint.addresses), problem: problem, isInterfaceUp: link?.isUp ?? false)
  }

  /// Looks again at those who were touched and those who wait, and tells.
  private func post() {
    var changed: [ResourceKey: ReadinessBoard.Progress?] = [:]
    for key in touched.union(pending) {
      let new = plan.endpoints[key].map { currentProgress(key, $0) }
      if new?.isProgrammed ?? true { pending.remove(key) } else { pending.insert(key) }
      if progress[key] == new { continue }
      progress[key] = new
      changed[key] = .some(new)
    }
    touched = []
    if endpointByIndex.count > 2 * progress.count + 16 {
      // Indexes of interfaces that are gone.
      endpointByIndex = endpointByIndex.filter { index, key in interfaceOf[key].flatMap { links.link(named: $0) }?.index == index }
    }
    readiness.post(revision: applied.rawValue, isProtected: areRulesRight, changed: changed)
    report(changed.keys)
  }

  /// Tells the datastore. What a round with refused rules found out of interfaces is half a picture: the next one tells.
  private func report(_ changed: some Sequence<ResourceKey>) {
    guard let reporter else { return }
    untold.formUnion(changed)
    let isRefused = refusals > 1
    // Another agent tells of this host's endpoints, and knows.
    guard areRulesRight || isRefused, rounds > 0, !isSecondAgent else { return }
    if isRefused != isRefusalTold {
      isRefusalTold = isRefused
      untold.formUnion(progress.keys)
    }
    let statuses = untold.map { ($0, endpointStatus($0)) }
    hostFiles?.report(statuses, plan)
    untold = []
    reporter.report(Dictionary(uniqueKeysWithValues: statuses))
    // Findings are gathered from everything that is in use here: not in every round.
    if !reporter.hasBegun {
      reporter.report(hostStatus())
    } else if hostReport?.isPending != true {
      hostReport = loop.schedule(after: .milliseconds(500)) { [unowned self] in reporter.report(hostStatus()) }
    }
  }

  /// Nil: there is no such endpoint.
  private func endpointStatus(_ key: ResourceKey) -> EndpointStatus? {
    guard let progress = progress[key] else { return nil }
    if refusals > 1 { return .error(rulesProblem) }
    guard let problem = progress.problem else { return .up }
    return progress.isInterfaceUp ? .error(problem) : .down(problem)
  }

  private var rulesProblem: String {
    "the rules are not in the kernel: \(problems.first { $0.hasPrefix("nftables") } ?? "see the log")"
  }

  func hostStatus() -> HostStatus {
    var since: [String: UTCTime] = [:]
    func trouble(_ object: String?, _ text: String) -> HostStatus.Trouble {
      let name = "\(object ?? ""): \(text)"
      if object != nil, troubleSince[name] == nil { log.error("\(name)") }
      since[name] = troubleSince[name] ?? .now()
      return HostStatus.Trouble(object: object, text: text, since: since[name]!)
    }
    var status = HostStatus()
    let told = problems + calculation.settingsResolution.problems + (hostFiles?.problems ?? []) + otherTables.problems + otherProblems()
    status.problems = told.map { trouble(nil, $0) }
    status.findings = findings.sorted { $0.key < $1.key }.map { trouble($0.key.description, $0.value) }
    troubleSince = since
    return status
  }

  private var findings: [ResourceKey: String] {
    calculation.findings.merging(unreadable) { $1 }.merging(renderer.interfaceResolution.findings) { "\($0); \($1)" }
  }
}
