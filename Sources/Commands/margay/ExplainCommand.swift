/// `margay explain`: may A speak to B, and which rule says so?
import Addresses
import ArgumentParser
import Datastore
import ExplainProgram
import Glibc
import JSON
import Resources

struct Explain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "May A speak to B? The verdict, and the tier, policy and rule that decide.",
    discussion: """
      A and B are workloads (namespace/pod, the pod alone if that is clear, or the endpoint's own name), addresses inside or outside of \
      the cluster, or hosts (host:NAME). Without protocol and port the question is about a ping; with a port alone, about TCP.

      The answer comes from what is stored, so it can be asked on any machine and without root. Exit code: 0 allowed, 1 denied (in any of \
      the families asked about), 2 the question has no answer.
      """)
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json }

  @Option(name: .long, help: "Who sends.") var from: String
  @Option(name: .long, help: "Who is meant to receive.") var to: String
  @Option(name: [.customLong("protocol")], help: "tcp, udp, sctp, icmp, icmpv6 or a number.") var protocolWord: String?
  @Option(name: .long, help: "The destination port.") var port: UInt16?
  @Option(name: [.customLong("from-port"), .customLong("source-port")], help: "The source port; without it, one that clients use.") var sourcePort: UInt16?
  @Option(name: .long, help: "4 or 6; without it, both where both ends have both.") var family: Int?
  @Option(name: .long, help: "The ICMP type; without it, an echo request.") var icmpType: UInt8?
  @Option(name: .long, help: "The ICMP code; without it, 0.") var icmpCode: UInt8?
  @Flag(name: [.customShort("v"), .long], help: "Also what did not match and why, what was not asked, and the labels.") var all = false
  @Flag(
    inversion: .prefixedNo,
    help: "What this host's kernel has counted at the rules named (needs root, on the host in question); without either, in JSON if it can be had.")
  var counters: Bool?
  @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let explanation: Explanation
    var live: LiveCounters?
    do {
      let cluster = try await Cluster.read(ResourceStore(try store.open()))
      explanation = try Explanation(try question(), in: cluster)
      if counters == true {
        guard geteuid() == 0 else { throw CommandProblem("the kernel shows its counters to root only; leave --counters out") }
        live = LiveCounters(explanation, in: cluster, kernel: try LiveCounters.kernel())
      } else if counters == nil, output == .json, geteuid() == 0, let kernel = try? LiveCounters.kernel() {
        live = LiveCounters(explanation, in: cluster, kernel: kernel)
      }
    } catch {
      writeError("margay explain: \(error)\n")
      throw ExitCode(2)
    }
    switch output {
    case .text: write(explanation.text(palette(), isComplete: all, counters: live))
    case .json: write(explanation.json(counters: live).text(pretty: true) + "\n")
    }
    if !explanation.isAllowed { throw ExitCode(1) }
  }

  private func question() throws -> Question {
    var question = Question(from: from, to: to)
    if let protocolWord {
      guard let known = NetworkProtocol(protocolWord) else {
        throw CommandProblem("\"\(protocolWord)\" is no protocol; write tcp, udp, sctp, icmp, icmpv6 or a number from 1 to 255")
      }
      question.ipProtocol = known
    }
    if let family {
      guard let known = UInt8(exactly: family).flatMap(IPFamily.init(rawValue:)) else {
        throw CommandProblem("\(family) is no family of addresses; write 4 or 6")
      }
      question.family = known
    }
    question.port = port
    question.sourcePort = sourcePort
    question.icmpType = icmpType
    question.icmpCode = icmpCode
    return question
  }
}
