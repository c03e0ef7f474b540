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
  let mtuDefault: UInt32
  let timeout: Duration
  let network: WorkloadNetwork
  let flows: FlowMemory
  let records: any EndpointRecords
  let addresses: any AddressSource
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
    guard configuration.ipam.isOurs else {
      throw CNIError(
        .invalidConfiguration, "ipam type \"\(configuration.ipam.type)\" is not supported",
        details: "use calico-ipam; addresses then come from the IPPools of the datastore")
    }
    try refuseHost(namespace)
    guard try await calling("read ClusterInformation", { try await records.isReady() }) else {
      throw CNIError(
        .tryAgainLater, "Calico is currently not ready to process requests",
        details: "datastoreReady is false in ClusterInformation default: a migration is under way, or was not finished")
    }
    let deadline = ContinuousClock.now + (configuration.policySetupTimeoutSeconds.map { .seconds($0) } ?? timeout)
    let sandbox = request.call.networkNamespace

    if let existing = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) }),
      let spec = existing.workloadEndpoint
    {
      if spec.containerID == workload.containerID, let cable = cable(of: spec, configuration),
        (try? await onThread { try network.verify(cable, container: namespace) }) != nil
      {
        log.info("ADD: attached already", metadata: metadata(workload))
        try await wait(for: existing, deadline) { try await readiness.waitUntilProgrammed($0, deadline: $1) }
        return Workload.result(spec, sandbox: sandbox, dns: configuration.dns)
      }
      // Another container of the same pod, or this one after its interface was lost: nothing of the old attachment is of use.
      try await clear(existing, spec, network: workload.network)
    }

    var undo = Undo()
    do throws(CNIError) {
      return try await attach(request, configuration, workload, namespace, deadline, &undo)
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
    _ deadline: ContinuousClock.Instant, _ undo: inout Undo
  ) async throws(CNIError) -> CNIResult {
    let arguments = request.call.arguments
    let wanted = try addressRequest(configuration, arguments, workload)
    // Before the assignment itself: one that fails half-way may hold something, and releasing nothing is success.
    undo.add("release the addresses of \(wanted.handle)") { [addresses] in try await addresses.release(handle: wanted.handle) }
    let given = try await calling("assign addresses", { try await addresses.assign(wanted) })
    guard !given.isEmpty else { throw CNIError(.failed, "IPAM plugin returned no IP addresses in result") }

    let cable = WorkloadNetwork.Cable(
      hostInterface: workload.hostInterface, containerInterface: workload.endpoint,
      mac: configuration.mac ?? WorkloadNetwork.randomMAC(), mtu: configuration.mtu ?? mtuDefault, addresses: given,
      allowsForwarding: configuration.allowsForwarding)
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
    return Workload.result(spec, sandbox: request.call.networkNamespace, dns: configuration.dns)
  }

  private func addressRequest(
    _ configuration: NetworkConfiguration, _ arguments: CNIArguments, _ workload: Workload
  ) throws(CNIError) -> AddressRequest {
    var exact = configuration.ipam.requested
    if let text = arguments["IP"] {
      guard let address = IPAddress(text) else { throw CNIError(.invalidEnvironment, "CNI_ARGS: IP=\(text) is not an IP address") }
      exact = [address]
    }
    if exact.filter({ $0.family == .v4 }).count > 1 || exact.filter({ $0.family == .v6 }).count > 1 {
      throw CNIError(.invalidConfiguration, "ips: at most one address of each family can be asked for")
    }
    var families: [IPFamily] = []
    if configuration.ipam.assignsIPv4 { families.append(.v4) }
    if configuration.ipam.assignsIPv6 { families.append(.v6) }
    return AddressRequest(
      handle: workload.handle, node: node, namespace: workload.namespace, families: exact.isEmpty ? families : exact.map(\.family),
      exact: exact, pools: [.v4: configuration.ipam.ipv4Pools, .v6: configuration.ipam.ipv6Pools],
      attributes: workload.assignmentAttributes)
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
    try await giveBack(handle, alsoForget: spec.ipNetworks.map(\.address))
  }

  // MARK: DEL

  private func delete(_ workload: Workload) async throws(CNIError) {
    let existing = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) })?.workloadEndpoint
    let containerID = workload.containerID
    guard existing == nil || existing?.containerID == containerID else {
      // The pod has another container by now, whose attachment this is. Only what was held for the old one is returned.
      log.info("DEL: the endpoint belongs to container \(existing?.containerID ?? "") now", metadata: metadata(workload))
      return try await giveBack(workload.handle, alsoForget: [])
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
    try await giveBack(workload.handle, alsoForget: existing?.ipNetworks.map(\.address) ?? [])
    log.info("DEL: \(existing == nil ? "nothing was recorded" : interface)", metadata: metadata(workload))
  }

  /// Forgets the flows of what the handle holds, then releases it. Flows of an address that the pod has on another host as well are the
  /// pod's, and go on there.
  private func giveBack(_ handle: String, alsoForget recorded: [IPAddress]) async throws(CNIError) {
    let held = try await calling("read the addresses of \(handle)", { try await addresses.addresses(heldBy: handle) })
    let shared = held.isEmpty ? [] : try await calling("read the addresses of \(handle)", { try await addresses.addresses(sharedBy: handle) })
    let gone = Set(held).union(recorded).subtracting(shared).sorted()
    if !gone.isEmpty {
      try await calling(
        "forget the flows of \(gone.map(\.description).joined(separator: " "))",
        { try await flows.forget(gone) })
    }
    if !held.isEmpty { try await calling("release the addresses of \(handle)", { try await addresses.release(handle: handle) }) }
  }

  // MARK: CHECK

  private func check(_ configuration: NetworkConfiguration, _ workload: Workload, _ namespace: NetworkNamespace) async throws(CNIError) {
    guard let spec = try await calling("read \(workload.key)", { try await records.endpoint(workload.key) })?.workloadEndpoint,
      spec.containerID == workload.containerID, let cable = cable(of: spec, configuration)
    else { throw CNIError(.checkFailed, "\(workload.key) is not recorded for container \(workload.containerID)") }
    do {
      try await onThread { try network.verify(cable, container: namespace) }
    } catch {
      throw CNIError(.checkFailed, "\(workload.key): \(error)", details: "DEL and ADD repair it")
    }
  }

  // MARK: Parts

  private func cable(of spec: WorkloadEndpointSpec, _ configuration: NetworkConfiguration) -> WorkloadNetwork.Cable? {
    guard let mac = spec.mac else { return nil }
    return WorkloadNetwork.Cable(
      hostInterface: spec.interfaceName, containerInterface: spec.endpoint, mac: mac, mtu: configuration.mtu ?? mtuDefault,
      addresses: spec.ipNetworks.map(\.address), allowsForwarding: configuration.allowsForwarding)
  }

  private func metadata(_ workload: Workload) -> Logger.Metadata {
    ["endpoint": "\(workload.key)", "container": "\(workload.containerID)"]
  }

  /// Gives an error its object, and the code by which the runtime knows whether to try again.
  private func calling<Value>(_ what: String, _ body: () async throws -> Value) async throws(CNIError) -> Value {
    do {
      return try await body()
    } catch let error as CNIError {
      throw error
    } catch DatastoreError.unavailable(let why) {
      throw CNIError(.tryAgainLater, "\(what): the datastore is not available: \(why)", details: "the call can be repeated")
    } catch {
      throw CNIError(.failed, "\(what): \(error)")
    }
  }
}
