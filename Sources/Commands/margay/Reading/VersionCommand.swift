/// version, config show: what this program is, and which datastore it would use and why.
import ArgumentParser
import Datastore
import DatastoreEtcd
import Datastores
import Documents
import JSON
import Resources
import Tables

/// Text for people, or a document.
enum DocumentOutput: String, ExpressibleByArgument, CaseIterable { case text, json, yaml }

func show(_ document: JSONValue, as output: DocumentOutput, text: () -> String) {
  switch output {
  case .text: emit(text())
  case .json: emit(document.text(pretty: true) + "\n")
  case .yaml: emit(document.yamlText)
  }
}

/// Lines of `name: value`, aligned; lines without a value are left out.
private func lines(_ pairs: [(String, String?)]) -> String {
  let width = pairs.map(\.0.count).max() ?? 0
  return pairs.map { name, value in value.map { "\(name):\(String(repeating: " ", count: width - name.count + 2))\($0)\n" } ?? "" }.joined()
}

struct Version: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The version of this program, of the cluster, and the datastore that holds it.",
    discussion: "Exit code 2 if the datastore that was chosen cannot be reached; without any, there is only the client's version to tell.")
  @Flag(name: .long, help: "Only this program's version; no datastore is asked.") var client = false
  @Option(name: .shortAndLong, help: "text, json or yaml.") var output: DocumentOutput = .text
  @Flag(name: .long, help: .hidden) var allowVersionMismatch = false
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    var document: JSONValue = ["clientVersion": .string(Margay.version)]
    var pairs: [(String, String?)] = [("Client Version", Margay.version)]
    var code: ExitCode?
    if !client, let decision = try namedDatastore() {
      document["datastore"] = .string(decision.choice.name)
      pairs.append(("Datastore", "\(decision.choice.name) (by \(decision.by))"))
      do throws(ExitCode) {
        let information = try await information(decision.choice)
        for (name, field, title) in [
          ("clusterVersion", "calicoVersion", "Cluster Version"), ("clusterType", "clusterType", "Cluster Type"),
          ("clusterGUID", "clusterGUID", "Cluster GUID"),
        ] {
          document[name] = information?["spec"]?[field]
          pairs.append((title, information?["spec"]?[field]?.string))
        }
        document["datastoreReady"] = information?["spec"]?["datastoreReady"]
        if let ready = information?["spec"]?["datastoreReady"]?.bool {
          pairs.append(("Datastore Ready", ready ? "yes" : "no; workloads are not attached"))
        }
        if information == nil { pairs.append(("Cluster", "no ClusterInformation yet; `margay node` makes it")) }
      } catch {
        code = error
      }
    }
    show(document, as: output) { lines(pairs) }
    if let code { throw code }
  }

  /// Nil if nothing names one; a name that is wrong is an error all the same.
  private func namedDatastore() throws -> DatastoreChoice.Decision? {
    do {
      return try store.decision()
    } catch let problem as CommandProblem where problem.description.hasPrefix("no datastore is named") {
      return nil
    }
  }

  private func information(_ choice: DatastoreChoice) async throws(ExitCode) -> JSONValue? {
    do throws(DatastoreError) {
      let datastore = try choice.open()
      let item = try await datastore.get(ResourceKey(.clusterInformation, name: "default").path)
      await datastore.close()
      return item.flatMap { try? JSONValue(parsing: $0.value) }
    } catch {
      writeError("\(error)\n")
      throw ReadingExit.unreachable
    }
  }
}

struct ConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "Which datastore is used, and by whose word.", subcommands: [Show.self], defaultSubcommand: Show.self)

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "The datastore that commands use, who named it, and how they are let in; no secrets.",
      discussion: """
        The first of these that says anything decides: --datastore; --config FILE; MARGAY_DATASTORE; /etc/calico/calicoctl.cfg (not for \
        daemons); DATASTORE_TYPE and ETCD_ENDPOINTS, also with CALICO_ in front, or as FELIX_ETCDENDPOINTS.
        """)
    @Option(name: .shortAndLong, help: "text, json or yaml.") var output: DocumentOutput = .text
    @OptionGroup var store: DatastoreOptions

    func run() throws {
      let (choice, by) = try store.decision()
      var document: JSONValue = ["datastore": .string(choice.name), "by": .string(by)]
      var pairs: [(String, String?)] = [("Datastore", choice.name), ("Named by", by)]
      if case .etcd(let etcd) = choice {
        func source(_ file: String?, _ text: EtcdConfiguration.PEMText?) -> String? {
          file ?? text.map { _ in "in the configuration file" }
        }
        if let tls = etcd.tls {
          let members: [(String, String, String?)] = [
            ("caCertificate", "CA certificate", source(tls.caFile, tls.caText) ?? "the machine's authorities"),
            ("certificate", "Certificate", source(tls.certificateFile, tls.certificateText)),
            ("key", "Key", source(tls.keyFile, tls.keyText)),
            ("serverName", "Server name", tls.serverName),
          ]
          for (name, title, value) in members {
            if let value { document[name] = .string(value) }
            pairs.append((title, value))
          }
        }
        if let user = etcd.credentials?.user { document["user"] = .string(user) }
        pairs.append(("User", etcd.credentials.map { "\($0.user), with a password" }))
      }
      show(document, as: output) { lines(pairs) }
    }
  }
}
