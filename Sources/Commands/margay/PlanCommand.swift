/// `margay plan`: what Felix would program for a host.
import Addresses
import ArgumentParser
import Calculation
import Datastore
import ExplainProgram
import FelixProgram
import JSON
import Resources
import ResourceVerbs
import Rulesets

struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "What Felix would program for a host: endpoints with their policies, sets, routes, rules.",
    discussion: """
      Worked out from what is stored, or from files; no kernel is looked at, so it can be asked on any machine and without root. With -o nft \
      the whole table is printed as a script that `nft -c -f` takes.

      Exit code: 0; 2 if there is no such host, a document is invalid or the datastore cannot be reached.
      """)
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json, nft }

  @Option(name: .long, help: "The host, by the name of its node.") var host: String
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  @Option(name: .shortAndLong, help: "text, json or nft.") var output: Output = .text
  @OptionGroup var colour: ColourOptions
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    do {
      let planning = input.files.isEmpty ? try await ofDatastore() : try ofFiles()
      switch output {
      case .text: emit(planning.text(colour.palette, widthMax: terminalWidth()))
      case .json: emit(planning.json.text(pretty: true) + "\n")
      case .nft: emit(RulesetText.script(planning.ruleset))
      }
    } catch let code as ExitCode {
      throw code
    } catch {
      writeError("margay plan: \(error)\n")
      throw ExitCode(2)
    }
  }

  private func ofDatastore() async throws -> HostPlanning {
    let datastore = try store.open()
    let cluster = try await Cluster.read(ResourceStore(datastore))
    var blocks: [(cidr: IPPrefix, fact: BlockFact?)] = []
    for prefix in BlockReading.prefixes {
      for item in try await datastore.list(prefix: prefix).items { if let block = BlockReading.read(item.key, item.value) { blocks.append(block) } }
    }
    return try HostPlanning(host: host, blocks: blocks, in: cluster)
  }

  private func ofFiles() throws -> HostPlanning {
    let submissions = input.read(namespace: namespace.namespace)
    for error in submissions.allErrors { writeError("\(error)\n") }
    if !submissions.allErrors.isEmpty { throw ExitCode(2) }
    var blocks: [(cidr: IPPrefix, fact: BlockFact?)] = []
    for case .blockAffinity(let spec) in submissions.items.map(\.resource.spec) where spec.state == .confirmed {
      blocks.append((spec.cidr, BlockFact(affinity: spec.node)))
    }
    return try HostPlanning(host: host, blocks: blocks, in: Cluster(submissions.items.map { ($0.resource, $0.document) }))
  }
}
