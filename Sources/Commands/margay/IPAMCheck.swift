/// ipam check: what is wrong with the records of addresses, as text and as a report that `ipam release --from-report` takes.
import AddressAssignment
import AddressPlans
import Addresses
import ArgumentParser
import Datastore
import JSON
import Names
import Resources
import Sockets
import Tables

struct IPAMCheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "What is wrong with the records of addresses.",
    discussion: """
      Compares blocks, handles and affinities with each other and with what endpoints, host endpoints and nodes use. Exit code 0: all is well. \
      1: something is wrong. What is being assigned at this moment may look wrong: look again before you release. `margay controllers` puts \
      right by itself what stays wrong for the grace period.
      """)
  @Flag(name: .long, help: "Every assigned address as well.") var showAllIps = false
  @Flag(name: .long, help: "Each address that is leaked, in use without being assigned, or contested. Always done here.") var showProblemIps = false
  @Option(name: .shortAndLong, help: "json: the report to standard output. Anything else: a file to write it to.") var output: String?
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let datastore = try store.open()
    let (census, clusterGUID) = try await withAddresses(datastore) {
      (try await AddressCensus.read(datastore), try await AddressReport.clusterGUID(datastore))
    }
    let findings = AddressFindings(census)
    let report = AddressReport(findings, clusterGUID: clusterGUID)
    if output == "json" {
      write(report.json.text(pretty: true) + "\n")
    } else {
      write(text(census, findings))
      if let output {
        do throws(SystemError) {
          try Files.writeAtomically(Array((report.json.text(pretty: true) + "\n").utf8), to: output)
        } catch {
          throw CommandProblem("\(error)")
        }
        write("report written to \(output); margay ipam release --from-report \(output) releases what it calls leaked\n")
      }
    }
    if findings.problemCount > 0 { throw ExitCode(1) }
  }

  private func text(_ census: AddressCensus, _ findings: AddressFindings) -> String {
    let palette = palette()
    var text = "\(census.blocks.count) blocks, \(findings.assignedCount) addresses assigned, \(findings.cooling.count) resting; "
    text += "\(census.handles.count) handles; \(census.users.count) addresses in use by endpoints and nodes\n"
    if showAllIps {
      for (cidr, stored) in census.blocks.sorted(by: { $0.key < $1.key }) {
        for (address, attribute, _) in stored.block.assignments {
          text += "  \(address) in \(cidr): \(attribute.handleID ?? "no handle")"
          text += census.users[address].map { ", used by \($0.map(\.description).sorted().joined(separator: ", "))" } ?? ""
          text += "\n"
        }
      }
    }
    func section(_ title: String, _ lines: [String]) {
      guard !lines.isEmpty else { return }
      text += "\(palette("\(lines.count) \(title)", .yellow))\n"
      for line in lines { text += "  \(line)\n" }
    }
    section("addresses are assigned and used by nobody:", findings.leaked.map { leak in
      let whom = leak.attributes["pod"].map { " for \(leak.attributes["namespace"] ?? "")/\($0)" } ?? ""
      return "\(leak.address)\(whom)\(leak.attributes["node"].map { " on \($0)" } ?? ""), handle \(leak.handle ?? "(none)")"
    })
    section("addresses are in use and not assigned:", findings.unassigned.map { "\($0.address): \($0.users.joined(separator: ", "))" })
    section("addresses are in use by several:", findings.contested.map { "\($0.address): \($0.users.joined(separator: ", "))" })
    section("handles count what is not there, or too little:", findings.miscounted.map {
      "\($0.handle) counts \($0.counted) in \($0.block), which has \($0.held) of it"
    })
    section("blocks are in no pool:", findings.blocksOutsidePools.map(\.description))
    section("blocks overlap:", findings.overlappingBlocks.map { "\($0.0) and \($0.1)" })
    section("affinities are not whole:", findings.affinities.map { "\($0.owner) for \($0.block): \($0.problem)" })
    section("records cannot be read:", findings.unreadable.map { "\($0.key): \($0.why)" })
    if findings.problemCount == 0 { text += palette("nothing is wrong", .green) + "\n" }
    return text
  }
}

/// The report of a check, as a document.
struct AddressReport {
  struct Leak: Hashable {
    var address: IPAddress
    var handle: String?
    var sequence: UInt64
  }
  var json: JSONValue
  var clusterGUID: String { json["clusterGUID"]?.string ?? "" }
  var leaks: [Leak] = []
  static let version = 1

  static func clusterGUID(_ datastore: any Datastore) async throws -> String {
    let item = try await datastore.get(ResourceKey(.clusterInformation, name: "default").path)
    return item.flatMap { try? JSONValue(parsing: $0.value) }?["spec"]?["clusterGUID"]?.string ?? ""
  }

  init(_ findings: AddressFindings, clusterGUID: String) {
    func strings(_ texts: [String]) -> JSONValue { .array(texts.map { .string($0) }) }
    func used(_ items: [(address: IPAddress, users: [String])]) -> JSONValue {
      .array(items.map { ["ip": .string($0.address.description), "usedBy": strings($0.users)] })
    }
    leaks = findings.leaked.map { Leak(address: $0.address, handle: $0.handle, sequence: $0.sequence) }
    json = [
      "version": .integer(Int64(Self.version)), "clusterGUID": .string(clusterGUID), "time": .string(UTCTime.now().text),
      "assigned": .integer(Int64(findings.assignedCount)), "problems": .integer(Int64(findings.problemCount)),
      "leaked": .array(
        findings.leaked.map { leak in
          [
            "ip": .string(leak.address.description), "handle": leak.handle.map { .string($0) } ?? .null,
            "sequenceNumber": Int64(exactly: leak.sequence).map { .integer($0) } ?? .unsigned(leak.sequence),
            "block": .string(leak.block.description),
            "attributes": .object(JSONObject(leak.attributes.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) })),
          ]
        }),
      "inUseNotAssigned": used(findings.unassigned), "contested": used(findings.contested),
      "resting": .array(findings.cooling.map { ["ip": .string($0.address.description), "since": .string($0.since)] }),
      "miscountedHandles": .array(
        findings.miscounted.map {
          [
            "handle": .string($0.handle), "block": .string($0.block.description), "counted": .integer($0.counted), "held": .integer($0.held),
          ]
        }),
      "missingHandles": strings(findings.missingHandles), "blocksOutsidePools": strings(findings.blocksOutsidePools.map(\.description)),
      "overlappingBlocks": .array(findings.overlappingBlocks.map { strings([$0.0.description, $0.1.description]) }),
      "affinities": .array(
        findings.affinities.map {
          ["owner": .string($0.owner.affinity), "block": .string($0.block.description), "problem": .string($0.problem)]
        }),
      "unreadable": .array(findings.unreadable.map { ["key": .string($0.key), "why": .string($0.why)] }),
    ]
  }

  init(path: String) throws {
    do {
      json = try JSONValue(parsing: Array(try Files.readText(path).utf8))
    } catch {
      throw CommandProblem("\(path): \(error)")
    }
    guard json["version"]?.integer == Int64(Self.version), let leaked = json["leaked"]?.array else {
      throw CommandProblem("\(path): this is no report of margay ipam check (version \(Self.version))")
    }
    for leak in leaked {
      let sequence: UInt64? =
        switch leak["sequenceNumber"] {
        case .integer(let number)?: UInt64(exactly: number)
        case .unsigned(let number)?: number
        default: nil
        }
      guard let address = leak["ip"]?.string.flatMap({ IPAddress($0) }), let sequence else {
        throw CommandProblem("\(path): an entry of `leaked` has no ip or no sequenceNumber: \(leak.text())")
      }
      leaks.append(Leak(address: address, handle: leak["handle"]?.string, sequence: sequence))
    }
  }
}
