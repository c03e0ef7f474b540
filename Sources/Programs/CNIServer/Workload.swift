/// Who a call is about, derived from its environment and configuration alone: names, labels, profiles, the record to write.

import Addresses
import CNIMessages
import JSON
import Names
import Resources

struct Workload: Sendable {
  let node: String
  let network: String
  let containerID: String
  /// The interface inside the container.
  let endpoint: String
  /// `k8s` when CNI_ARGS name a pod, else `cni`.
  let orchestrator: String
  let namespace: String
  /// Nil without Kubernetes.
  let pod: String?
  let key: ResourceKey
  let hostInterface: String
  /// Calls about the same workload take turns.
  let turn: String

  init(_ call: CNICall, _ configuration: NetworkConfiguration, node: String) throws(CNIError) {
    self.node = node
    network = configuration.name
    containerID = call.containerID
    endpoint = call.interfaceName
    guard configuration.nodeName.isEmpty || configuration.nodeName == node else {
      throw CNIError(
        .invalidConfiguration, "nodename is \"\(configuration.nodeName)\" in the network configuration, but this node is \"\(node)\"",
        details: "remove nodename from the configuration, or start the node process under that name")
    }
    let subject: String
    if let found = call.arguments.pod {
      orchestrator = "k8s"
      namespace = found.namespace
      pod = found.name
      subject = found.name
      hostInterface = HostInterfaceName.forPod(
        namespace: namespace, pod: endpoint == "eth0" ? subject : "\(subject).\(endpoint)")
    } else {
      orchestrator = "cni"
      namespace = configuration.margay.namespace ?? "default"
      pod = nil
      subject = containerID
      // Runtimes use 64 hexadecimal digits, of which eleven are as good as unique. Other ids may begin alike, and a container with two
      // networks has two interfaces: those take a digest.
      let isPlain = endpoint == "eth0" && (containerID.utf8.count <= 11 || containerID.utf8.allSatisfy(Self.isHexadecimal))
      hostInterface =
        isPlain ? HostInterfaceName.forContainer(containerID) : HostInterfaceName.forPod(namespace: containerID, pod: endpoint)
    }
    turn = "\(orchestrator)/\(namespace)/\(subject)"
    do throws(WorkloadEndpointName.Fault) {
      let name = try WorkloadEndpointName(node: node, orchestrator: orchestrator, workload: subject, endpoint: endpoint)
      key = ResourceKey(.workloadEndpoint, namespace: namespace, name: name.description)
    } catch {
      throw CNIError(.invalidEnvironment, "no endpoint can be named after \(subject) \(endpoint): \(error)")
    }
  }

  private static func isHexadecimal(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): true
    default: false
    }
  }

  /// Under which addresses are held.
  var handle: String { Self.handle(network: network, containerID: containerID) }
  static func handle(network: String, containerID: String) -> String { "\(network).\(containerID)" }

  /// What the assignment's record says about its holder.
  var assignmentAttributes: [String: String] {
    var attributes = ["node": node, "namespace": namespace]
    if let pod { attributes["pod"] = pod }
    return attributes
  }

  static let handleAnnotation = "margay/ipam-handle"

  /// The WorkloadEndpoint object.
  func record(
    _ configuration: NetworkConfiguration, _ arguments: CNIArguments, addresses: [IPAddress], mac: MACAddress
  ) throws(CNIError) -> Resource {
    var labels = configuration.labels
    labels.merge(try arguments.labels) { _, own in own }
    for (name, value) in labels {
      if let fault = NameRules.labelKeyFault(name) { throw CNIError(.invalidConfiguration, "label \"\(name)\": \(fault)") }
      if let fault = NameRules.labelValueFault(value) { throw CNIError(.invalidConfiguration, "label \(name)=\"\(value)\": \(fault)") }
    }
    labels["projectcalico.org/namespace"] = namespace
    labels["projectcalico.org/orchestrator"] = orchestrator
    let account = configuration.margay.serviceAccount
    if let account { labels["projectcalico.org/serviceaccount"] = account }

    var spec = WorkloadEndpointSpec()
    spec.orchestrator = orchestrator
    spec.node = node
    spec.containerID = containerID
    spec.pod = pod ?? ""
    spec.endpoint = endpoint
    spec.serviceAccountName = account ?? ""
    spec.ipNetworks = addresses.map(\.hostPrefix)
    spec.profiles = profiles(configuration, arguments)
    spec.interfaceName = hostInterface
    spec.mac = mac
    for port in configuration.margay.ports {
      guard let number = NetworkProtocol(port.networkProtocol) else {
        throw CNIError(.invalidConfiguration, "margay.ports: \(port.name): unknown protocol \"\(port.networkProtocol)\"")
      }
      spec.ports.append(WorkloadEndpointSpec.NamedPort(name: port.name, protocol: number, port: port.port))
    }
    // The handle of an older container of the same pod may belong to a network of another name; the record remembers it.
    let metadata = Metadata(
      name: key.name, namespace: namespace, labels: labels, annotations: [Self.handleAnnotation: handle])
    return Resource(metadata, .workloadEndpoint(spec))
  }

  func profiles(_ configuration: NetworkConfiguration, _ arguments: CNIArguments) -> [String] {
    if let profiles = arguments.profiles ?? configuration.margay.profiles { return profiles }
    guard pod != nil else { return [network] }
    return ["kns.\(namespace)"] + (configuration.margay.serviceAccount.map { ["ksa.\(namespace).\($0)"] } ?? [])
  }

  /// The profile that a network without an orchestrator's policy gets: its members reach each other, and they reach everybody.
  var networkProfile: Resource {
    var fromMembers = Rule(.allow)
    fromMembers.source.selector = "has(\(network))"
    return Resource(
      Metadata(name: network),
      .profile(ProfileSpec(ingress: [fromMembers], egress: [Rule(.allow)], labelsToApply: [network: ""])))
  }

  /// The reply to ADD for an endpoint as it is recorded.
  /// Routes are told when they are not just the default ones.
  static func result(_ spec: WorkloadEndpointSpec, sandbox: String, destinations: [IPPrefix], dns: JSONValue?) -> CNIResult {
    CNIResult(
      interfaces: [
        CNIResult.Interface(name: spec.interfaceName, mac: .hostSide),
        CNIResult.Interface(name: spec.endpoint, mac: spec.mac, sandbox: sandbox),
      ],
      addresses: spec.ipNetworks.map { CNIResult.Address(InterfaceAddress($0.address, length: $0.length), interface: 1) },
      routes: destinations.map { CNIResult.Route($0, gateway: WorkloadNetwork.gateway($0.family)) }, dns: dns)
  }
}

extension Resource {
  var workloadEndpoint: WorkloadEndpointSpec? { if case .workloadEndpoint(let spec) = spec { spec } else { nil } }
  var profile: ProfileSpec? { if case .profile(let spec) = spec { spec } else { nil } }
}
