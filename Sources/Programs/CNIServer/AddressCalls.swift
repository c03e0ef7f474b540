/// ADD, DEL and CHECK of `calico-ipam`: addresses for interfaces that other plugins make.

import Addresses
import CNIMessages
import JSON
import Logging

struct AddressCalls: Sendable {
  let node: String
  let records: any EndpointRecords
  let addresses: any AddressSource
  let returns: AddressReturns
  let log: Logger

  func perform(_ request: NodeRequest) async throws(CNIError) -> JSONValue? {
    let configuration = try NetworkConfiguration(request.configuration)
    let workload = try Workload(request.call, configuration, node: node)
    switch request.call.command {
    case .add: return try await add(request.call, configuration, workload).json(configuration.version)
    case .delete:
      try await returns.giveBack(workload.handle)
      log.info("IPAM DEL", metadata: ["handle": "\(workload.handle)"])
      return nil
    case .check:
      try await check(configuration, workload)
      return nil
    case .version: throw CNIError(.invalidEnvironment, "VERSION is answered by the plugin itself")
    }
  }

  /// Tells whoever looks for leaked addresses that no WorkloadEndpoint will stand for this one: it is in use until it is released.
  static let withoutEndpoint = ["margay/endpoint": "none"]

  /// The addresses stand for themselves: no gateway, no routes. Whoever makes the interface knows what its link looks like.
  private func add(_ call: CNICall, _ configuration: NetworkConfiguration, _ workload: Workload) async throws(CNIError) -> CNIResult {
    try await records.requireReady()
    var request = try AddressRequest(configuration, call.arguments, workload)
    request.attributes.merge(Self.withoutEndpoint) { $1 }
    let given = try await calling("assign addresses", { [request] in try await addresses.assign(request) })
    do throws(CNIError) {
      guard !given.isEmpty else { throw CNIError(.failed, "no address was assigned: neither family was asked for") }
      // An address that was asked for by name stands alone; one out of a block has the block's length, as Calico's has: addresses of
      // one block find each other on one bridge.
      var lengths: [CNIResult.Address] = []
      for address in given {
        let length = request.exact.isEmpty
          ? try await calling("read the block of \(address)", { try await addresses.blockLength(of: address) }) : UInt8(address.family.bits)
        lengths.append(CNIResult.Address(InterfaceAddress(address, length: length)))
      }
      log.info("IPAM ADD: \(given.map(\.description).joined(separator: " "))", metadata: ["handle": "\(workload.handle)"])
      return CNIResult(interfaces: [], addresses: lengths, dns: configuration.dns)
    } catch {
      try await calling("release the addresses of \(workload.handle)", { try await addresses.release(handle: workload.handle) })
      throw error
    }
  }

  private func check(_ configuration: NetworkConfiguration, _ workload: Workload) async throws(CNIError) {
    let held = try await calling("read the addresses of \(workload.handle)", { try await addresses.addresses(heldBy: workload.handle) })
    guard !held.isEmpty else { throw CNIError(.checkFailed, "\(workload.handle) holds no address") }
    guard let previous = configuration.previousResult else { return }
    // Other plugins of the chain may have added addresses of their own: those of a family that we hold none of are theirs.
    for item in try CNIResult(previous, place: "prevResult").addresses {
      let address = item.address.address
      guard !held.contains(address), held.contains(where: { $0.family == address.family }) else { continue }
      throw CNIError(
        .checkFailed, "\(workload.handle) does not hold \(address) of prevResult but \(held.map(\.description).joined(separator: " "))")
    }
  }
}

extension AddressRequest {
  init(_ configuration: NetworkConfiguration, _ arguments: CNIArguments, _ workload: Workload) throws(CNIError) {
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
    self.init(
      handle: workload.handle, node: workload.node, namespace: workload.namespace,
      families: exact.isEmpty ? families : exact.map(\.family), exact: exact,
      pools: [.v4: configuration.ipam.ipv4Pools, .v6: configuration.ipam.ipv6Pools], attributes: workload.assignmentAttributes)
  }
}

/// How addresses go back: their flows are forgotten first, and only then may somebody else have them.
struct AddressReturns: Sendable {
  let addresses: any AddressSource
  let flows: FlowMemory

  /// Forgets the flows of what the handle holds, and of what the endpoint's record says, then releases what the handle holds. Flows of an
  /// address that the pod has on another host as well are the pod's, and go on there.
  func giveBack(_ handle: String, alsoForget recorded: [IPAddress] = []) async throws(CNIError) {
    let (held, shared) = try await calling("read the addresses of \(handle)", { try await addresses.holding(of: handle) })
    let gone = Set(held).union(recorded).subtracting(shared).sorted()
    if !gone.isEmpty {
      try await calling("forget the flows of \(gone.map(\.description).joined(separator: " "))", { try await flows.forget(gone) })
    }
    if !held.isEmpty { try await calling("release the addresses of \(handle)", { try await addresses.release(handle: handle) }) }
  }
}
