/// ADD, DEL and CHECK: the order of the steps, and what is undone when one of them fails.
///
/// ADD works from the inside out: addresses, cable (switched off), record, rules in the kernel, cable on, routes in the kernel. DEL works
/// from the outside in, and gives addresses back last: nobody may get one while a packet of its old holder can still pass or a flow of it
/// is remembered.
///
/// A pod may move: ADD on its new host asks for the addresses that it has on the old one, before or after DEL there. Each attachment has a
/// handle and a record of its own, so the late DEL of the old one touches nothing of the new one.

import Addresses
import CNIMessages
import Datastore
import Glibc
import JSON
import Logging
import NetlinkEdge
import Resources
import Sockets

struct Attachments: Sendable {
  let node: String
  /// Where the network's configuration gives none.
  let mtuDefault: @Sendable () -> UInt32
  let timeout: Duration
  let network: WorkloadNetwork
  let records: any EndpointRecords
  let addresses: any AddressSource
  let returns: AddressReturns
  let readiness: any EndpointReadiness
  let waits: StoppableWaits
  let log: Logger

  /// Steps to take back, last one first.
  private struct Undo {
    var steps: [(what: String, take: @Sendable () async throws -> Void)] = []
    mutating func add(_ what: String, _ take: @escaping @Sendable () async throws -> Void) { steps.append((what, take)) }
  }

  func perform(_ request: NodeRequest, namespace: NetworkNamespace?) async throws(CNIError) -> JSONValue? {
    let configuration = try NetworkConfiguration(request.configuration)
    let workload = try Workload(request.call, configuration, node: node)
    switch request.call.command {
    case .add: return try await add(request, configuration, workload, try required(namespace)).json(configuration.version)
    case .delete:
      try await delete(workload)
      return nil
    case .check:
      try await check(configuration, workload, try required(namespace))
      return nil
    case .version: throw CNIError(.invalidEnvironment, "VERSION is answered by the plugin itself")
    }
  }

  private func required(_ namespace: NetworkNamespace?) throws(CNIError) -> NetworkNamespace {
    guard let namespace else { throw CNIError(.nodeProtocol, "the request came without the container's network namespace") }
    return namespace
  }

  // MARK: ADD

  private func add(
    _ request: NodeRequest, _ configuration: NetworkConfiguration, _ workload: Workload, _ namespace: NetworkNamespace
  ) async throws(CNIError) -> CNIResult {
    try refuseHost(namespace)
    let delegated = try delegated(request, configuration)
    try await records.requireReady()
    let deadline = ContinuousClock.now + (configuration.policySetupTimeoutSeconds.map { .seconds($0) } ?? timeout)
    let sandbox = request.call.networkNamespace

    if let existing = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) }),
      let spec = existing.workloadEndpoint
    {
      let destinations = destinations(delegated, configuration)
      if spec.containerID == workload.containerID, let cable = cable(of: spec, configuration, destinations),
        delegated == nil || Set(delegated!.addresses.map(\.address.address)) == Set(cable.addresses),
        (try? await onThread { try network.verify(cable, container: namespace) }) != nil
      {
        log.info("ADD: attached already", metadata: metadata(workload))
        try await wait(for: existing, deadline) { try await readiness.waitUntilProgrammed($0, deadline: $1) }
        return Workload.result(spec, sandbox: sandbox, destinations: destinations, dns: configuration.dns)
      }
      // Another container of the same pod, or this one after its interface was lost: nothing of the old attachment is of use.
      try await clear(existing, spec, network: workload.network)
    }

    var undo = Undo()
    do throws(CNIError) {
      return try await attach(request, configuration, workload, namespace, delegated, deadline, &undo)
    } catch {
      for step in undo.steps.reversed() {
        do {
          try await step.take()
        } catch let failure {
          log.error("ADD failed, and so did undoing it: \(step.what): \(failure)", metadata: metadata(workload))
        }
      }
      throw error
    }
  }

  private func attach(
    _ request: NodeRequest, _ configuration: NetworkConfiguration, _ workload: Workload, _ namespace: NetworkNamespace,
    _ delegated: CNIResult?, _ deadline: ContinuousClock.Instant, _ undo: inout Undo
  ) async throws(CNIError) -> CNIResult {
    let arguments = request.call.arguments
    let given: [IPAddress]
    if let delegated {
      given = delegated.addresses.map(\.address.address)
    } else {
      let wanted = try AddressRequest(configuration, arguments, workload)
      // Before the assignment itself: one that fails half-way may hold something, and releasing nothing is success.
      undo.add("release the addresses of \(wanted.handle)") { [addresses] in try await addresses.release(handle: wanted.handle) }
      given = try await calling("assign addresses", { try await addresses.assign(wanted) })
    }
    guard !given.isEmpty else { throw CNIError(.failed, "IPAM plugin returned no IP addresses in result") }

    let destinations = destinations(delegated, configuration)
    let cable = WorkloadNetwork.Cable(
      hostInterface: workload.hostInterface, containerInterface: workload.endpoint,
      mac: configuration.mac ?? WorkloadNetwork.randomMAC(), mtu: configuration.mtu ?? mtuDefault(), addresses: given,
      destinations: destinations, allowsForwarding: configuration.allowsForwarding)
    let record = try workload.record(configuration, arguments, addresses: given, mac: cable.mac)

    try await calling("make the interfaces", { try await onThread { try network.attach(cable, container: namespace) } })
    undo.add("remove \(cable.hostInterface)") { [network] in try await onThread { try network.remove(cable.hostInterface) } }

    if workload.pod == nil, record.workloadEndpoint?.profiles == [workload.network] {
      try await calling("make profile \(workload.network)", { try await records.ensureProfile(workload.networkProfile) })
    }
    let containerID = workload.containerID
    undo.add("delete \(workload.key)") { [records] in
      try await records.delete(workload.key) { $0.workloadEndpoint?.containerID == containerID }
    }
    let stored = try await calling("write \(workload.key)", { try await records.put(record) })

    try await wait(for: stored, deadline) { try await readiness.waitUntilProtected($0, deadline: $1) }
    try await calling("switch \(cable.hostInterface) on", { try await onThread { try network.open(cable, container: namespace) } })
    try await wait(for: stored, deadline) { try await readiness.waitUntilProgrammed($0, deadline: $1) }
    log.info(
      "ADD: \(given.map(\.description).joined(separator: " ")) on \(cable.hostInterface)", metadata: metadata(workload))
    guard let spec = record.workloadEndpoint else { preconditionFailure("Workload.record makes a WorkloadEndpoint") }
    return Workload.result(
      spec, sandbox: request.call.networkNamespace, destinations: destinations, dns: delegated?.dns ?? configuration.dns)
  }

  /// What another IPAM plugin gave; nil when addresses are ours to assign.
  private func delegated(_ request: NodeRequest, _ configuration: NetworkConfiguration) throws(CNIError) -> CNIResult? {
    guard !configuration.ipam.isOurs else { return nil }
    guard let json = request.ipamResult else {
      throw CNIError(.nodeProtocol, "the request came without the result of IPAM plugin \(configuration.ipam.type)")
    }
    let result = try CNIResult(json, place: "the result of IPAM plugin \(configuration.ipam.type)")
    for item in result.addresses {
      let address = item.address.address
      guard !address.isLoopback, !address.isMulticast, !address.isLinkLocal, !address.isUnspecified else {
        throw CNIError(.invalidConfiguration, "IPAM plugin \(configuration.ipam.type) gave \(address), which no workload can have")
      }
    }
    return result
  }

  /// Where the container's routes lead, if not everywhere: the routes that the IPAM plugin lists, by way of our gateway.
  private func destinations(_ delegated: CNIResult?, _ configuration: NetworkConfiguration) -> [IPPrefix] {
    guard let delegated, !delegated.routes.isEmpty else { return [] }
    let defaults = configuration.includesDefaultRoutes ? IPFamily.allCases.map(\.everything) : []
    var seen: Set<IPPrefix> = []
    return (delegated.routes.map(\.destination) + defaults).filter { prefix in
      delegated.addresses.contains { $0.address.address.family == prefix.family } && seen.insert(prefix).inserted
    }
  }

  /// A runtime that passes the host's own namespace would have the host's interfaces and routes changed.
  private func refuseHost(_ namespace: NetworkNamespace) throws(CNIError) {
    func identity(_ path: String) throws(CNIError) -> (UInt64, UInt64) {
      do throws(SystemError) {
        return try Files.identity(path)
      } catch {
        throw CNIError(.inputOutput, "\(error)")
      }
    }
    let host = network.host.map { "/proc/self/fd/\($0.descriptor.borrowed)" } ?? "/proc/thread-self/ns/net"
    if try identity(host) == identity("/proc/self/fd/\(namespace.descriptor.borrowed)") {
      throw CNIError(.invalidEnvironment, "CNI_NETNS is the network namespace of the host itself")
    }
  }

  private func wait(
    for endpoint: Resource, _ deadline: ContinuousClock.Instant,
    _ body: @escaping @Sendable (AttachedEndpoint, ContinuousClock.Instant) async throws -> Void
  ) async throws(CNIError) {
    guard let spec = endpoint.workloadEndpoint else { preconditionFailure("endpoints are WorkloadEndpoints") }
    let attached = AttachedEndpoint(
      key: endpoint.key, resourceVersion: endpoint.metadata.resourceVersion ?? "", interfaceName: spec.interfaceName,
      addresses: spec.ipNetworks.map(\.address))
    do {
      try await waits.run(until: deadline) { try await body(attached, deadline) }
    } catch is CancellationError {
      throw CNIError(.tryAgainLater, "the node process is stopping")
    } catch {
      throw CNIError(
        .notProgrammed, "\(endpoint.key): its rules and routes did not reach the kernel: \(error)",
        details: "see the log of margay felix on \(node)")
    }
  }

  /// Takes down an attachment that is being replaced. Its record stays: it is overwritten.
  private func clear(_ existing: Resource, _ spec: WorkloadEndpointSpec, network name: String) async throws(CNIError) {
    log.info("ADD: replaces the attachment of container \(spec.containerID)", metadata: ["endpoint": "\(existing.key)"])
    try await calling("remove \(spec.interfaceName)", { try await onThread { try network.remove(spec.interfaceName) } })
    let handle = existing.metadata.annotations[Workload.handleAnnotation] ?? Workload.handle(network: name, containerID: spec.containerID)
    try await returns.giveBack(handle, alsoForget: spec.ipNetworks.map(\.address))
  }

  // MARK: DEL

  private func delete(_ workload: Workload) async throws(CNIError) {
    let existing = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) })?.workloadEndpoint
    let containerID = workload.containerID
    guard existing == nil || existing?.containerID == containerID else {
      // The pod has another container by now, whose attachment this is. Only what was held for the old one is returned.
      log.info("DEL: the endpoint belongs to container \(existing?.containerID ?? "") now", metadata: metadata(workload))
      return try await returns.giveBack(workload.handle)
    }
    let interface = existing?.interfaceName ?? workload.hostInterface
    // The kernel takes up to 20 ms for a pair to go (RCU); the record goes meanwhile.
    async let removal: Void = onThread { [network] in try network.remove(interface) }
    let recordRemoval: CNIError?
    do throws(CNIError) {
      if existing != nil {
        try await calling(
          "delete \(workload.key)",
          { try await records.delete(workload.key) { $0.workloadEndpoint?.containerID == containerID } })
      }
      recordRemoval = nil
    } catch {
      recordRemoval = error
    }
    do {
      try await removal
    } catch {
      throw CNIError(.failed, "remove \(interface): \(error)")
    }
    if let recordRemoval { throw recordRemoval }
    try await returns.giveBack(workload.handle, alsoForget: existing?.ipNetworks.map(\.address) ?? [])
    log.info("DEL: \(existing == nil ? "nothing was recorded" : interface)", metadata: metadata(workload))
  }

  // MARK: CHECK

  private func check(_ configuration: NetworkConfiguration, _ workload: Workload, _ namespace: NetworkNamespace) async throws(CNIError) {
    let previous: CNIResult?
    if let json = configuration.previousResult { previous = try CNIResult(json, place: "prevResult") } else { previous = nil }
    guard let stored = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) }),
      let spec = stored.workloadEndpoint, spec.containerID == workload.containerID,
      let cable = cable(of: spec, configuration, configuration.ipam.isOurs ? [] : previous?.routes.map(\.destination) ?? [])
    else { throw CNIError(.checkFailed, "\(workload.key) is not recorded for container \(workload.containerID)") }
    do {
      if let previous { try Self.compare(previous, spec) }
      if configuration.ipam.isOurs { try await checkHolding(workload, cable.addresses) }
      try await onThread { [network] in
        try network.verify(cable, container: namespace)
        try network.verifyHost(cable)
      }
    } catch let error as CNIError {
      throw error
    } catch {
      throw CNIError(.checkFailed, "\(workload.key): \(error)", details: "DEL and ADD repair it")
    }
    // Rules: Felix's word on what the kernel holds; nobody else can change its table.
    try await wait(for: stored, .now + Self.checkPatience) { try await readiness.waitUntilProgrammed($0, deadline: $1) }
  }
  /// How long CHECK gives Felix for a change that is under way.
  private static let checkPatience: Duration = .seconds(2)

  /// What ADD told the runtime, against the record. Other plugins of a chain may have added interfaces and addresses of their own.
  private static func compare(_ previous: CNIResult, _ spec: WorkloadEndpointSpec) throws(WorkloadNetwork.Mismatch) {
    guard let own = previous.interfaces.firstIndex(where: { $0.name == spec.endpoint && $0.sandbox != nil }) else {
      throw WorkloadNetwork.Mismatch(description: "prevResult has no interface \(spec.endpoint) in the container")
    }
    if let mac = previous.interfaces[own].mac, mac != spec.mac {
      throw WorkloadNetwork.Mismatch(description: "prevResult has \(spec.endpoint) with \(mac), the record has \(spec.mac.map(\.description) ?? "none")")
    }
    let told = previous.addresses.filter { $0.interface == nil || $0.interface == own }.map(\.address.address)
    let recorded = spec.ipNetworks.map(\.address)
    if let missing = told.first(where: { !recorded.contains($0) }) {
      throw WorkloadNetwork.Mismatch(description: "prevResult has the address \(missing), the record does not")
    }
    if let missing = recorded.first(where: { !told.contains($0) }) {
      throw WorkloadNetwork.Mismatch(description: "the record has the address \(missing), prevResult does not")
    }
  }

  private func checkHolding(_ workload: Workload, _ expected: [IPAddress]) async throws {
    let held = try await calling("read the addresses of \(workload.handle)", { try await addresses.addresses(heldBy: workload.handle) })
    if let missing = expected.first(where: { !held.contains($0) }) {
      throw WorkloadNetwork.Mismatch(description: "\(workload.handle) does not hold the address \(missing)")
    }
  }

  // MARK: Parts

  private func cable(
    of spec: WorkloadEndpointSpec, _ configuration: NetworkConfiguration, _ destinations: [IPPrefix]
  ) -> WorkloadNetwork.Cable? {
    guard let mac = spec.mac else { return nil }
    return WorkloadNetwork.Cable(
      hostInterface: spec.interfaceName, containerInterface: spec.endpoint, mac: mac, mtu: configuration.mtu ?? mtuDefault(),
      addresses: spec.ipNetworks.map(\.address), destinations: destinations, allowsForwarding: configuration.allowsForwarding)
  }

  private func metadata(_ workload: Workload) -> Logger.Metadata {
    ["endpoint": "\(workload.key)", "container": "\(workload.containerID)"]
  }
}
