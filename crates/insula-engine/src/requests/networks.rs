//! Networks: looking at them, and making, changing and removing them while the agent runs.

use std::sync::Arc;

use insula_types::{NetworkName, NetworkSpec};

use crate::blocking::blocking;
use crate::host::networks::{NetworkView, Networks};
use crate::{Engine, EngineError};

impl Engine {
    /// The network of this name.
    pub fn network(&self, name: &str) -> Result<Arc<NetworkSpec>, EngineError> {
        self.networks.find(name)
    }

    /// All networks, and how full they are.
    pub async fn networks(&self) -> Result<Vec<NetworkView>, EngineError> {
        self.networks.views().await
    }

    /// Makes a network.
    pub async fn add_network(&self, spec: NetworkSpec) -> Result<(), EngineError> {
        self.change_networks("make a network", move |networks| networks.add(spec)).await
    }

    /// Changes the network of the same name. Only one that no VPS uses can get another range or bridge.
    pub async fn change_network(&self, spec: NetworkSpec) -> Result<(), EngineError> {
        self.change_networks("change a network", move |networks| networks.change(spec)).await
    }

    /// Removes a network that no VPS uses, and that the settings do not name.
    pub async fn remove_network(&self, name: NetworkName) -> Result<(), EngineError> {
        self.change_networks("remove a network", move |networks| networks.remove(name.as_str())).await
    }

    /// No VPS gets an address meanwhile.
    pub(crate) async fn change_networks(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Networks) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let _assigning = self.assigning.lock().await;
        let networks = self.shared.networks.clone();
        blocking(doing, move || change(&networks)).await
    }
}
