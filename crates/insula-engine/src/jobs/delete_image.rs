//! Removes an image. VPSes that were cloned from it keep what they have.

use insula_types::{Fingerprint, ImageRef, OperationRecord};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::step::Step;
use crate::{Engine, EngineError};

/// Remove an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeleteImageJob {
    pub image: Fingerprint,
}

impl Engine {
    /// Removes an image. VPSes that were cloned from it keep what they have.
    pub async fn delete_image(
        &self,
        asked: &Asked,
        reference: &ImageRef,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let job = DeleteImageJob { image: self.images.find(reference)?.fingerprint };
            self.request_of_host(asked, &reference.to_string(), job, true).await
        })
        .await
    }
}

impl JobSpec for DeleteImageJob {
    fn target(&self) -> Target {
        Target::Image(self.image)
    }

    fn plan(&self) -> Plan {
        Plan::lasting([Step::ForgetImage(self.image), Step::RemoveImageVolume(self.image)])
    }
}
