//! `ImageService`: images, their aliases and their builds.

use insula_api::convert::{parse, parse_optional};
use insula_api::v1;
use insula_engine::BuildImage;
use tonic::{Request, Response, Status};

use crate::services::Shared;
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::image_service_server::ImageService for Shared {
    async fn build_image(&self, request: Request<v1::BuildImageRequest>) -> Answer<v1::BuildImageResponse> {
        self.mutate(request, async |engine, _, asked, request| {
            let v1::BuildImageRequest { definition, alias, rebuild, .. } = request;
            let request = BuildImage { definition, alias: parse_optional("alias", &alias)?, rebuild };
            engine.build_image(&asked, request).await.map_err(status)
        })
        .await
    }

    async fn get_image(&self, request: Request<v1::GetImageRequest>) -> Answer<v1::GetImageResponse> {
        let image = self.engine.image(&parse("image", &request.get_ref().image)?).map_err(status)?;
        Ok(Response::new(v1::GetImageResponse { image: Some((&image).into()) }))
    }

    async fn list_images(&self, _request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let images = self.engine.images().iter().map(Into::into).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn set_image_alias(
        &self,
        request: Request<v1::SetImageAliasRequest>,
    ) -> Answer<v1::SetImageAliasResponse> {
        self.mutate(request, async |engine, _, asked, request| {
            let (image, alias) = (parse("image", &request.image)?, parse("alias", &request.alias)?);
            engine.set_image_alias(&asked, &image, alias).await.map_err(status)
        })
        .await
    }

    async fn delete_image_alias(
        &self,
        request: Request<v1::DeleteImageAliasRequest>,
    ) -> Answer<v1::DeleteImageAliasResponse> {
        self.mutate(request, async |engine, _, asked, request| {
            let alias = parse("alias", &request.alias)?;
            engine.delete_image_alias(&asked, alias).await.map_err(status)
        })
        .await
    }

    async fn delete_image(
        &self,
        request: Request<v1::DeleteImageRequest>,
    ) -> Answer<v1::DeleteImageResponse> {
        self.mutate(request, async |engine, _, asked, request| {
            let image = parse("image", &request.image)?;
            engine.delete_image(&asked, &image).await.map_err(status)
        })
        .await
    }
}
