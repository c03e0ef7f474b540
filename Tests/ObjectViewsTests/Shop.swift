/// A small cluster as it is stored, with what its daemons say of themselves, and some things that no writer of ours would store.
import Datastore
import DatastoreMemory
import JSON
import ObjectViews
import Resources

func shop() async throws -> MemoryDatastore {
  let datastore = MemoryDatastore()
  let root = ResourceKey.root
  func put(_ key: String, _ text: String, lease: LeaseID? = nil) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(text.utf8), lease: lease)])
  }
  func object(_ kind: Kind, _ name: String, namespace: String? = nil, labels: String = "", _ spec: String) async throws {
    let place = (namespace.map { #","namespace":"\#($0)""# } ?? "") + (labels.isEmpty ? "" : #","labels":{\#(labels)}"#)
    try await put(
      ResourceKey(kind, namespace: namespace, name: name).path,
      #"{"kind":"\#(kind.rawValue)","apiVersion":"projectcalico.org/v3","metadata":{"name":"\#(name)"\#(place),"uid":"u-\#(name)","creationTimestamp":"2026-01-01T00:00:00Z"},"spec":\#(spec)}"#
    )
  }
  try await object(.tier, "security", #"{"order":100}"#)
  try await object(.tier, "default", #"{"order":1000000,"defaultAction":"Deny"}"#)
  try await object(.node, "host1", #"{"bgp":{"ipv4Address":"172.30.1.1/24","asNumber":65001}}"#)
  try await object(.node, "host2", #"{"bgp":{"ipv4Address":"172.30.1.2/24"}}"#)
  try await object(.ipPool, "blue", labels: #""color":"blue""#, #"{"cidr":"10.65.0.0/24","natOutgoing":true}"#)
  try await object(.ipPool, "six", #"{"cidr":"fd00:65::/64","disabled":true,"nodeSelector":"rack == '1'"}"#)
  try await object(
    .networkPolicy, "web", namespace: "shop", labels: #""app":"web","projectcalico.org/x":"1""#,
    #"{"tier":"security","order":10,"selector":"app == 'web'","types":["Ingress"],"ingress":[{"action":"Allow"},{"action":"Permit"}]}"#)
  try await object(
    .networkPolicy, "db", namespace: "default", labels: #""app":"db""#, #"{"selector":"app == 'db'","egress":[{"action":"Deny"}]}"#)
  try await put("\(root)networkpolicies/shop/broken", "{")
  try await object(
    .workloadEndpoint, "host1-k8s-web--1-eth0", namespace: "shop",
    #"{"orchestrator":"k8s","node":"host1","pod":"web-1","endpoint":"eth0","ipNetworks":["10.65.0.1/32","fd00:65::1/128"],"profiles":["kns.shop"],"interfaceName":"cali0a"}"#
  )
  try await object(
    .workloadEndpoint, "host2-k8s-web--2-eth0", namespace: "shop",
    #"{"orchestrator":"k8s","node":"host2","pod":"web-2","endpoint":"eth0","ipNetworks":["10.65.0.9/32"],"interfaceName":"cali0b"}"#)
  try await object(.bgpPeer, "tor", #"{"peerIP":"172.30.1.254:1790","asNumber":64999,"nodeSelector":"rack == '1'"}"#)
  try await put(
    "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26",
    #"{"cidr":"10.65.0.0/26","allocations":[0,null,0,0,null],"unallocated":[],"attributes":[]}"#)
  let lease = try await datastore.grantLease(seconds: 3600)
  let felix = "/calico/felix/v2/no-region/host/"
  try await put("\(felix)host1/status", #"{"time":"2026-01-01T00:00:00Z","uptime":1}"#, lease: lease)
  try await put("\(felix)host2/last_reported_status", #"{"time":"2026-01-01T00:00:00Z","uptime":1}"#)
  try await put("\(felix)host1/workload/k8s/shop%2fweb-1/endpoint/eth0", #"{"status":"up"}"#, lease: lease)
  try await put("\(felix)host2/workload/k8s/shop%2fweb-2/endpoint/eth0", #"{"status":"error","reason":"no route"}"#, lease: lease)
  try await put(
    "/calico/margay/v1/bgp/host1",
    #"{"sessions":[{"name":"tor","peer":"172.30.1.254","established":true},{"name":"host2","peer":"172.30.1.2","established":false}],"problems":[]}"#,
    lease: lease)
  return datastore
}
