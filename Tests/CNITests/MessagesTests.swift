import Addresses
import CNIMessages
import JSON
import Testing

/// Texts as a runtime reads them: a change here is a change for every runtime.
@Suite("CNI: what runtimes send and read")
struct MessagesTests {
  static let result = CNIResult(
    interfaces: [
      .init(name: "cali0123456789a", mac: .hostSide), .init(name: "eth0", mac: MACAddress("02:00:00:00:00:01"), sandbox: "/run/netns/x"),
    ],
    addresses: [
      .init(InterfaceAddress("10.65.0.7/32")!, interface: 1), .init(InterfaceAddress("fd00:65::7/128")!, interface: 1),
    ], dns: ["nameservers": ["10.0.0.53"]])

  @Test("A result looks as each version prescribes", arguments: [
    (CNIVersion.v0_2_0, #"{"cniVersion":"0.2.0","ip4":{"ip":"10.65.0.7/32"},"ip6":{"ip":"fd00:65::7/128"},"dns":{"nameservers":["10.0.0.53"]}}"#),
    (.v0_3_1, #"{"cniVersion":"0.3.1","interfaces":[{"name":"cali0123456789a","mac":"ee:ee:ee:ee:ee:ee"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/x"}],"ips":[{"version":"4","interface":1,"address":"10.65.0.7/32"},{"version":"6","interface":1,"address":"fd00:65::7/128"}],"dns":{"nameservers":["10.0.0.53"]}}"#),
    (.v0_4_0, #"{"cniVersion":"0.4.0","interfaces":[{"name":"cali0123456789a","mac":"ee:ee:ee:ee:ee:ee"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/x"}],"ips":[{"version":"4","interface":1,"address":"10.65.0.7/32"},{"version":"6","interface":1,"address":"fd00:65::7/128"}],"dns":{"nameservers":["10.0.0.53"]}}"#),
    (.v1_0_0, #"{"cniVersion":"1.0.0","interfaces":[{"name":"cali0123456789a","mac":"ee:ee:ee:ee:ee:ee"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/x"}],"ips":[{"interface":1,"address":"10.65.0.7/32"},{"interface":1,"address":"fd00:65::7/128"}],"dns":{"nameservers":["10.0.0.53"]}}"#),
  ])
  func result(_ version: CNIVersion, _ text: String) {
    #expect(Self.result.json(version).text() == text)
  }

  @Test("An error names code, message and details in the caller's version")
  func error() {
    let error = CNIError(.tryAgainLater, "no node", details: "start it")
    #expect(error.json(version: .v0_4_0).text() == #"{"cniVersion":"0.4.0","code":11,"msg":"no node","details":"start it"}"#)
    #expect(CNIError(.invalidEnvironment, "x").json(version: nil).text() == #"{"cniVersion":"1.0.0","code":4,"msg":"x"}"#)
  }

  @Test("VERSION answers in the version asked in, and in ours when that is unknown")
  func version() {
    #expect(CNIVersion.reply(to: ["cniVersion": "0.4.0"])["cniVersion"] == "0.4.0")
    #expect(CNIVersion.reply(to: ["cniVersion": "9.0.0"])["cniVersion"] == "1.0.0")
    #expect(
      CNIVersion.reply(to: nil).text()
        == #"{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0"]}"#)
  }

  // MARK: Environment

  static func call(_ changes: [String: String?] = [:]) throws(CNIError) -> CNICall {
    var environment: [String: String] = [
      "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
      "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front-1;K8S_POD_UID=", "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
    ]
    for (name, value) in changes { environment[name] = value }
    return try CNICall(environment: { environment[$0] })
  }

  @Test("The environment is read whole, the arguments in any order")
  func environment() throws {
    let call = try Self.call()
    #expect(call.command == .add && call.containerID == "c1" && call.path == ["/opt/cni/bin", "/usr/lib/cni"])
    #expect(call.arguments.pod! == (namespace: "web", name: "front-1"))
    #expect(call.arguments["K8S_POD_UID"] == nil)
    let labels = try Self.call(["CNI_ARGS": "MARGAY_LABELS=app=web,tier=;MARGAY_PROFILES=a,b"]).arguments
    #expect(try labels.labels == ["app": "web", "tier": ""])
    #expect(labels.profiles == ["a", "b"])
  }

  @Test("A variable that is missing or wrong is named", arguments: [
    ("CNI_COMMAND", nil, "CNI_COMMAND is not set"), ("CNI_COMMAND", "GC", "CNI_COMMAND \"GC\" is unknown"),
    ("CNI_CONTAINERID", "", "CNI_CONTAINERID is not set"), ("CNI_CONTAINERID", "-a", "CNI_CONTAINERID \"-a\" does not begin"),
    ("CNI_CONTAINERID", "a/b", "CNI_CONTAINERID \"a/b\" has characters"), ("CNI_IFNAME", "..", "CNI_IFNAME \"..\""),
    ("CNI_IFNAME", "a:b", "CNI_IFNAME \"a:b\" has"), ("CNI_IFNAME", "sixteencharsarex", "is longer than 15"),
    ("CNI_NETNS", "", "CNI_NETNS is not set"), ("CNI_ARGS", "A", "CNI_ARGS: \"A\" is not KEY=VALUE"),
  ] as [(String, String?, String)])
  func environmentFaults(_ name: String, _ value: String?, _ words: String) {
    let error = #expect(throws: CNIError.self) { try Self.call([name: value]) }
    #expect(error?.code == .invalidEnvironment && error?.message.contains(words) == true, "\(String(describing: error))")
  }

  @Test("DEL does without a namespace, VERSION without everything")
  func fewerVariables() throws {
    #expect(try Self.call(["CNI_COMMAND": "DEL", "CNI_NETNS": ""]).command == .delete)
    #expect(try CNICall(environment: { ["CNI_COMMAND": "VERSION", "CNI_NETNS": "dummy"][$0] }).command == .version)
  }

  // MARK: Configuration

  @Test("Calico's configuration is read, unknown members are passed over")
  func configuration() throws {
    let text = #"""
      {"cniVersion":"0.3.1","name":"k8s-pod-network","type":"calico","log_level":"info","nodename":"n1","mtu":1440,"unknown":{"a":[1]},
       "ipam":{"type":"calico-ipam","assign_ipv4":"true","assign_ipv6":"true","ipv4_pools":["10.65.0.0/16"],"subnet":null},
       "container_settings":{"allow_ip_forwarding":true},"policy":{"type":"k8s"},"policy_setup_timeout_seconds":0,
       "args":{"cni":{"labels":[{"key":"app","value":"web"},{"key":"tier","value":"x"}]}},
       "runtimeConfig":{"ips":["10.65.0.9/32"],"mac":"02:42:ac:11:00:02"},
       "margay":{"labels":{"tier":"front"},"profiles":["p"],"namespace":"ns","socket":"/x/cni.sock","serviceAccount":"sa",
                 "ports":[{"name":"http","port":80}],"timeoutSeconds":7}}
      """#
    let configuration = try NetworkConfiguration(JSONValue(parsing: text))
    #expect(configuration.version == .v0_3_1 && configuration.name == "k8s-pod-network" && configuration.nodeName == "n1")
    #expect(configuration.mtu == 1440 && configuration.allowsForwarding && configuration.policyType == "k8s")
    #expect(configuration.ipam.isOurs && configuration.ipam.assignsIPv4 && configuration.ipam.assignsIPv6)
    #expect(configuration.ipam.ipv4Pools == ["10.65.0.0/16"] && configuration.ipam.requested == [IPAddress("10.65.0.9")!])
    #expect(configuration.labels == ["app": "web", "tier": "front"])
    #expect(configuration.mac == MACAddress("02:42:ac:11:00:02"))
    #expect(configuration.margay.profiles == ["p"] && configuration.margay.namespace == "ns" && configuration.margay.socket == "/x/cni.sock")
    #expect(configuration.margay.ports == [.init(name: "http", networkProtocol: "TCP", port: 80)])
    #expect(configuration.policySetupTimeoutSeconds == 7)
  }

  @Test("A configuration without a word on families asks for IPv4 alone, in version 0.2.0")
  func defaults() throws {
    let configuration = try NetworkConfiguration(["name": "n"])
    #expect(configuration.version == .v0_2_0 && configuration.ipam.assignsIPv4 && !configuration.ipam.assignsIPv6)
    #expect(configuration.mtu == nil && configuration.policySetupTimeoutSeconds == nil && configuration.dns == nil)
  }

  @Test("A member of the wrong kind is named with its place", arguments: [
    (#"{"cniVersion":"1.1.0","name":"n"}"#, 1, "\"1.1.0\" is not supported"),
    (#"{"cniVersion":1,"name":"n"}"#, 6, "cniVersion is not a string"),
    (#"{"cniVersion":"1.0.0"}"#, 7, "the network has no name"), (#"[]"#, 6, "not a JSON object"),
    (#"{"name":"n","mtu":"big"}"#, 7, "mtu is not an integer"), (#"{"name":"n","mtu":-1}"#, 7, "mtu is not an integer from 0"),
    (#"{"name":"n","ipam":{"assign_ipv4":"yes"}}"#, 7, "ipam.assign_ipv4 is not"),
    (#"{"name":"n","ipam":{"assign_ipv4":"false"}}"#, 7, "both assign_ipv4 and assign_ipv6"),
    (#"{"name":"n","device_type":"netkit"}"#, 7, "unknown device_type"),
    (#"{"name":"n","runtimeConfig":{"ips":["x"]}}"#, 7, "\"x\" is not an IP address"),
    (#"{"name":"n","runtimeConfig":{"mac":"01:00:00:00:00:01"}}"#, 7, "group address"),
    (#"{"name":"n","args":{"cni":{"labels":[{"value":"x"}]}}}"#, 7, "labels[0].key is missing"),
    (#"{"name":"n","margay":{"labels":{"a":1}}}"#, 7, "margay.labels.a is not a string"),
  ] as [(String, UInt32, String)])
  func configurationFaults(_ text: String, _ code: UInt32, _ words: String) throws {
    let json = try JSONValue(parsing: text)
    let error = #expect(throws: CNIError.self) { try NetworkConfiguration(json) }
    #expect(error?.code.rawValue == code && error?.message.contains(words) == true, "\(String(describing: error))")
  }

  // MARK: Node protocol

  @Test("A request comes back from its frame as it was")
  func request() throws {
    let request = NodeRequest(call: try Self.call(), configuration: ["name": "n", "cniVersion": "1.0.0"])
    let frame = NodeProtocol.frame(request.json)
    for cut in [0, 3, 4, frame.count - 1] { #expect(try NodeProtocol.unframe(Array(frame[..<cut])) == nil) }
    let json = try #require(try NodeProtocol.unframe(frame))
    #expect(
      json.text()
        == #"{"protocol":2,"role":"network","command":"ADD","containerID":"c1","netns":"/run/netns/x","ifName":"eth0","args":"IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front-1;K8S_POD_UID=","path":["/opt/cni/bin","/usr/lib/cni"],"config":{"name":"n","cniVersion":"1.0.0"}}"#)
    #expect(try NodeRequest(json) == request)
  }

  @Test("Answers come back as they were")
  func response() throws {
    for response in [NodeResponse.success(nil), .success(["a": 1]), .failure(CNIError(.failed, "m", details: "d"))] {
      #expect(try NodeResponse(response.json) == response)
    }
  }

  @Test("What cannot be a frame or a request is refused at once", arguments: [
    ([0xff, 0, 0, 0], "frame of"), ([0, 0, 0, 1, 0x7b], "no JSON"), ([0, 0, 0, 2, 0x7b, 0x7d, 0x7d], "after the end"),
    ([0, 0, 0, 2, 0x7b, 0x7d], "no protocol version"),
  ] as [([UInt8], String)])
  func badFrames(_ octets: [UInt8], _ words: String) {
    let error = #expect(throws: CNIError.self) { _ = try NodeRequest(try NodeProtocol.unframe(octets)!) }
    #expect(error?.code == .nodeProtocol && error?.message.contains(words) == true, "\(String(describing: error))")
  }

  @Test("Releases that do not fit say so")
  func otherProtocol() throws {
    var json = NodeRequest(call: try Self.call(), configuration: ["name": "n"]).json
    json["protocol"] = 3
    let error = #expect(throws: CNIError.self) { try NodeRequest(json) }
    #expect(error?.message == "margay-cni speaks protocol 3, the node process 2")
  }

  @Test("A tombstone has one file name for each attachment, and every name fits")
  func tombstoneNames() throws {
    func name(_ container: String, _ interface: String) -> String {
      NodeRequest(
        call: CNICall(command: .delete, containerID: container, networkNamespace: "", interfaceName: interface), configuration: [:]
      ).tombstoneName
    }
    #expect(name("c1", "eth0") == "c1+eth0.del.json")
    #expect(name("a.b", "e%h") == "a%2eb+e%25h.del.json")
    let long = String(repeating: "f", count: 300)
    #expect(name(long, "eth0").utf8.count < 255 && name(long, "eth0") != name(long, "eth1"))
  }

  @Test("Tombstones lie beside a socket of one's own, and in the state directory otherwise")
  func tombstoneDirectory() {
    #expect(NodeProtocol.tombstones(configured: nil, socket: NodeProtocol.socketDefault) == "/var/lib/margay/cni/tombstones")
    #expect(NodeProtocol.tombstones(configured: nil, socket: "/run/lab/h1/cni.sock") == "/run/lab/h1/tombstones")
    #expect(NodeProtocol.tombstones(configured: "/t", socket: "/run/lab/h1/cni.sock") == "/t")
  }
}
