import CNIMessages
import Glibc
import JSON
import KernelSandbox
import Sockets
import Testing

@Suite("CNI: whatever comes in, what goes out is the specification's error", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct ContractTests {
  static let network = #"{"cniVersion":"1.0.0","name":"net","type":"calico"}"#

  struct BadCall: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var input = ContractTests.network
    var changes: [String: String?] = [:]
    var code: Int64
    var words: String
  }
  static let cases = [
    BadCall(testDescription: "no input", input: "", code: 6, words: "standard input is empty"),
    BadCall(testDescription: "garbage", input: "\u{1}\u{2}garbage", code: 6, words: "failed to load netconf"),
    BadCall(testDescription: "half an object", input: #"{"cniVersion":"1.0.0","na"#, code: 6, words: "failed to load netconf"),
    BadCall(testDescription: "a list", input: "[]", code: 6, words: "not a JSON object"),
    BadCall(testDescription: "more than half a megabyte", input: #"{"name":"\#(String(repeating: "n", count: 600_000))"}"#, code: 6, words: "has more than 524288 octets"),
    BadCall(testDescription: "deeply nested", input: String(repeating: "[", count: 100_000), code: 6, words: "failed to load netconf"),
    BadCall(testDescription: "a newer version", input: #"{"cniVersion":"1.1.0","name":"net"}"#, code: 1, words: "cniVersion \"1.1.0\" is not supported"),
    BadCall(testDescription: "no name", input: #"{"cniVersion":"1.0.0"}"#, code: 7, words: "the network has no name"),
    BadCall(testDescription: "no command", changes: ["CNI_COMMAND": nil], code: 4, words: "CNI_COMMAND is not set"),
    BadCall(testDescription: "a verb of 1.1.0", changes: ["CNI_COMMAND": "GC"], code: 4, words: "CNI_COMMAND \"GC\""),
    BadCall(testDescription: "no container", changes: ["CNI_CONTAINERID": nil], code: 4, words: "CNI_CONTAINERID is not set"),
    BadCall(testDescription: "a container that is a path", changes: ["CNI_CONTAINERID": "../../etc"], code: 4, words: "CNI_CONTAINERID"),
    BadCall(testDescription: "no interface", changes: ["CNI_IFNAME": ""], code: 4, words: "CNI_IFNAME is not set"),
    BadCall(testDescription: "an interface name too long", changes: ["CNI_IFNAME": "sixteencharsarex"], code: 4, words: "longer than 15"),
    BadCall(testDescription: "an interface with a slash", changes: ["CNI_IFNAME": "a/b"], code: 4, words: "CNI_IFNAME"),
    BadCall(testDescription: "arguments without a value", changes: ["CNI_ARGS": "A;B=1"], code: 4, words: "CNI_ARGS"),
    BadCall(testDescription: "no namespace", changes: ["CNI_NETNS": ""], code: 4, words: "CNI_NETNS is not set"),
    BadCall(testDescription: "a namespace that is gone", changes: ["CNI_NETNS": "/run/netns/gone"], code: 4, words: "CNI_NETNS: open network namespace /run/netns/gone"),
    BadCall(testDescription: "a namespace that is a file", changes: ["CNI_NETNS": "/etc/passwd"], code: 4, words: "/etc/passwd is not a network namespace"),
    BadCall(testDescription: "another kind of namespace", changes: ["CNI_NETNS": "/proc/self/ns/uts"], code: 4, words: "is not a network namespace"),
    BadCall(testDescription: "CHECK in a version without it", input: #"{"cniVersion":"0.3.1","name":"net"}"#, changes: ["CNI_COMMAND": "CHECK"], code: 1, words: "CHECK came with cniVersion 0.3.1"),
    BadCall(testDescription: "another dataplane", input: #"{"name":"net","dataplane_options":{"type":"grpc"}}"#, code: 7, words: "dataplane_options"),
  ]

  @Test("An error is JSON with code and words on standard output, and exit code 1", arguments: cases)
  func errors(_ one: BadCall) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      for program in ["calico", "calico-ipam"] {
        if program == "calico-ipam", one.testDescription.contains("namespace that is") || one.testDescription.contains("kind of namespace") { continue }
        var environment = rig.environment("ADD", "c1", container.name)
        for (name, value) in one.changes {
          environment.removeAll { $0.hasPrefix("\(name)=") }
          if let value { environment.append("\(name)=\(value)") }
        }
        let answer = try await rig.execute(try rig.link(program), environment, input: Array(one.input.utf8))
        #expect(answer.code == 1 && answer.errorCode == one.code, "\(program): \(answer.code) \(answer.text.prefix(400))")
        #expect(answer.message.contains(one.words), "\(program): \(answer.message.prefix(400))")
        #expect(CNIVersion(rawValue: answer.json?["cniVersion"]?.string ?? "") != nil)
      }
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Input without an end is not read without an end")
  func endlessInput() async throws {
    let rig = try Rig()
    let plugin = try rig.link("calico")
    let environment = rig.environment("DEL", "c1", "").map { "'\($0)'" }.joined(separator: " ")
    let answer = try await blocking { try ChildCommand("/bin/sh", ["-c", "yes | env -i \(environment) \(plugin)"]).runToEnd() }
    #expect(answer.code == 1 && answer.output.contains("has more than 524288 octets"), "\(answer.output.prefix(400))")
  }

  @Test("VERSION is answered under every name, whatever else comes in", arguments: ["margay-cni", "calico", "calico-ipam", "margay-ipam"])
  func version(_ program: String) async throws {
    let rig = try Rig()
    for input in ["", "garbage", #"{"cniVersion":"1.1.0"}"#, #"{"cniVersion":"0.3.1"}"#] {
      let answer = try await rig.execute(
        try rig.link(program), ["CNI_COMMAND=VERSION", "CNI_NETNS=dummy", "CNI_IFNAME=dummy", "CNI_PATH=dummy"], input: Array(input.utf8))
      #expect(answer.code == 0 && answer.json?["supportedVersions"]?.array?.contains("1.0.0") == true, "\(answer.text)")
      #expect(answer.json?["supportedVersions"]?.array?.contains("1.1.0") == false)
    }
  }

  @Test("Every result has its version's shape, and the default of a configuration without one is Calico's", arguments: [
    ("0.2.0", "ip4"), ("0.3.1", "interfaces"), ("0.4.0", "interfaces"), ("1.0.0", "interfaces"), ("", "ip4"),
  ])
  func versions(_ version: String, _ member: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      var configuration = Rig.configuration
      configuration["cniVersion"] = version.isEmpty ? nil : .string(version)
      let added = try await rig.plugin("ADD", "c1", container, configuration: configuration, program: "calico")
      #expect(added.code == 0 && added.json?[member] != nil, "\(added.text)")
      #expect(added.json?["cniVersion"]?.string == (version.isEmpty ? "0.2.0" : version))
      #expect((added.json?["ips"]?.array?[0]["version"] != nil) == (version.hasPrefix("0.3") || version.hasPrefix("0.4")))
    }
  }
}
