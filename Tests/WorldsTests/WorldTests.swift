/// Random worlds, three readings of each: the oracle's, the calculation's plan executed packet by packet, and what real packets do.
///
/// `MARGAY_WORLDS=2000` plays that many; `MARGAY_WORLD=17` that one. A failure is made as small as it can be and printed as documents.
import Addresses
import Calculation
import Documents
import Foundation
import HostPlans
import KernelSandbox
import PlanReading
import PolicyOracle
import RandomClusters
import Resources
import Testing

struct Disagreement: Sendable {
  var packet: Packet
  var oracle: Verdict
  var plan: Bool
  var kernel: Bool
  func words(_ isAllowed: Bool) -> String { isAllowed ? "allowed" : "denied" }
  var description: String { "\(packet): the plan says \(words(plan)), the kernel \(words(kernel)), the oracle \(oracle)" }
}

/// The first packet about which the three do not agree, if there is one; and how many were allowed.
func play(_ resources: [Resource], _ packets: [Packet], on bench: WorldBench) throws -> (disagreement: Disagreement?, allowed: Int) {
  let plan = try bench.enter(resources)
  let passed = try bench.passes(packets)
  let oracle = PolicyOracle(resources: resources, uplinks: WorldBench.uplinks)
  let interpreter = PlanInterpreter(plan: plan, uplink: (RandomWorld.uplink, Set(RandomWorld.hostAddresses)))
  for (packet, passed) in zip(packets, passed) {
    let verdict = oracle.verdict(packet, on: RandomWorld.host)
    // Whether a packet begins a connection is nothing that a plan says.
    let isBeyondPolicy = verdict.trail.last?.direction == nil && !verdict.isAllowed && packet.icmpType != nil
    let planned = isBeyondPolicy ? verdict.isAllowed : interpreter.allows(packet)
    if verdict.isAllowed != passed || verdict.isAllowed != planned {
      return (Disagreement(packet: packet, oracle: verdict, plan: planned, kernel: passed), 0)
    }
  }
  return (nil, passed.count { $0 })
}

@Suite("Random worlds", .serialized, .enabled(if: KernelSandbox.isAvailable))
struct WorldTests {
  static let environment = ProcessInfo.processInfo.environment
  static let count = environment["MARGAY_WORLDS"].flatMap { UInt64($0) } ?? 50
  static let seeds: [UInt64] = environment["MARGAY_WORLD"].flatMap { UInt64($0) }.map { [$0] } ?? Array(1...count)
  static let packetsOfEach = 60

  @Test("The oracle, the calculation and real packets agree")
  func agree() throws {
    let bench = try WorldBench()
    // What is said of a test must be said on its own thread.
    let (failure, packets, allowed) = try WorldBench.steadily { try compare(on: bench) }
    if let failure {
      Issue.record(Comment(rawValue: failure))
      return
    }
    print("long: \(Self.seeds.count) worlds, seeds \(Self.seeds.first!) to \(Self.seeds.last!); \(packets) packets, \(allowed) allowed")
    // A comparison in which nearly everything is denied would prove little.
    #expect(Self.seeds.count < 10 || allowed * 8 > packets && allowed * 8 < packets * 7, "\(allowed) of \(packets) allowed")
  }

  private func compare(on bench: WorldBench) throws -> (failure: String?, packets: Int, allowed: Int) {
    var (packets, allowed) = (0, 0)
    for seed in Self.seeds {
      let world = RandomWorld(seed: seed, flows: Self.packetsOfEach)
      _ = try bench.enter(world.before)
      let answer = try play(world.resources, world.flows.map { Packet($0) }, on: bench)
      packets += world.flows.count
      allowed += answer.allowed
      guard let found = answer.disagreement else { continue }
      if Self.environment["MARGAY_SHRINK"] == "0" { return ("MARGAY_WORLD=\(seed): \(found.description)", packets, allowed) }
      guard let least = try Shrinking.least(world.resources, found.packet, on: bench) else {
        return ("MARGAY_WORLD=\(seed): \(found.description)\n(only behind the packets before it)", packets, allowed)
      }
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("world-\(seed).yaml").path
      let text = least.resources.map { "---\n" + ResourceCodec.encode($0).yamlText }.joined()
      try? text.write(toFile: file, atomically: true, encoding: .utf8)
      return ("MARGAY_WORLD=\(seed): \(least.disagreement.description)\nthe least world of this kind, also in \(file):\n\(text)", packets, allowed)
    }
    return (nil, packets, allowed)
  }
}
